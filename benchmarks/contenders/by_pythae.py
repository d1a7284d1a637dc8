"""Pythae's models with the optimiser that its trainer makes, in a loop as its trainer's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import PENALTY, RATE, Case
from benchmarks.contenders.base import Contender, Missing
from benchmarks.contenders.nets import decoder, encoder


def contender(case: Case, device: torch.device) -> Contender:
    """Return Pythae's model of the case.

    Args:
        case: what is trained.
        device: where the parameters live.

    Raises:
        Missing: if it is not installed.
    """
    try:
        from pythae import models
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
    except ImportError as error:
        raise Missing(f"{error.name} is not installed: pip install 'priory[bench]'") from error

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = encoder(case)

        def forward(self, x: Tensor) -> Any:
            loc, log_scale = self.net(x).chunk(2, -1)
            if case.loss == "wae":  # whose code is the embedding itself
                loc = torch.addcmul(loc, log_scale.exp(), torch.randn_like(loc))
            return ModelOutput(embedding=loc, log_covariance=2 * log_scale)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder(case)

        def forward(self, z: Tensor) -> Any:
            out = self.net(z)
            return ModelOutput(reconstruction=out if case.loss == "wae" else torch.sigmoid(out))

    common = {"input_dim": case.shape, "latent_dim": case.latent}
    if case.loss == "wae":
        penalty = {"reg_weight": PENALTY, "reconstruction_loss_scale": 0.5}
        kind, config = models.WAE_MMD, models.WAE_MMD_Config(**common, **penalty)
    elif case.loss == "iwae":
        options = {"reconstruction_loss": "bce", "number_samples": case.particles}
        kind, config = models.IWAE, models.IWAEConfig(**common, **options)
    else:
        kind, config = models.VAE, models.VAEConfig(**common, reconstruction_loss="bce")
    model = kind(config, Encoder(), Decoder()).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)

    def step(x: Tensor) -> Tensor:
        loss = model({"data": x}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return Contender(step)
