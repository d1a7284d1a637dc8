"""The cases' nets in plain torch, with the layers and the start that Priory's have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.cases import Case


class Bias(nn.Module):
    """Adds one number per pixel.

    Args:
        shape: of a datum.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + bias."""
        return x + self.bias


def started(layer: nn.Module, activation: str = "linear") -> nn.Module:
    """Start a layer as He et al. 2015 do before a rectifier, else as Glorot and Bengio 2010."""
    if activation == "relu":
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two tanh layers and a linear one."""
    return nn.Sequential(
        started(nn.Linear(inputs, hidden)),
        nn.Tanh(),
        started(nn.Linear(hidden, hidden)),
        nn.Tanh(),
        started(nn.Linear(hidden, outputs)),
    )


def encoder(case: Case) -> nn.Sequential:
    """From data (n, *shape) to means and log scales, (n, 2 latent)."""
    if not case.conv:
        return mlp(case.pixels, case.hidden, 2 * case.latent)
    first, second = case.channels
    area = case.corner[1] * case.corner[2]
    return nn.Sequential(
        started(nn.Conv2d(1, first, 3, stride=2, padding=1), "relu"),
        nn.ReLU(),
        started(nn.Conv2d(first, second, 3, stride=2, padding=1), "relu"),
        nn.ReLU(),
        nn.Flatten(),
        started(nn.Linear(second * area, case.hidden), "relu"),
        nn.ReLU(),
        started(nn.Linear(case.hidden, 2 * case.latent)),
    )


def decoder(case: Case) -> nn.Sequential:
    """From latents (*batch, latent) to logits or means, (*batch, *shape)."""
    if not case.conv:
        return mlp(case.latent, case.hidden, case.pixels)
    first, second = case.channels
    corner = case.corner
    up = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    return nn.Sequential(
        started(nn.Linear(case.latent, case.hidden), "relu"),
        nn.ReLU(),
        started(nn.Linear(case.hidden, corner[0] * corner[1] * corner[2]), "relu"),
        nn.ReLU(),
        nn.Unflatten(1, corner),
        started(nn.ConvTranspose2d(second, first, **up), "relu"),
        nn.ReLU(),
        started(nn.ConvTranspose2d(first, 1, bias=False, **up)),
        Bias(case.shape),
    )
