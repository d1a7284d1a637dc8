"""What is timed: a pair, an objective and a batch, the same for every contender."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RATE = 1e-3
PENALTY = 10.0  # weight of the WAE's divergence
FACTORS = 8  # of the data, so that there is something to learn


@dataclass(frozen=True)
class Case:
    """One training task.

    Args:
        title: its name in the table.
        loss: "elbo", "iwae" or "wae". The first two have Bernoulli pixels; the last has Normal ones
            of unit scale, and as penalty the MMD between the batch's latents and the prior's.
        batch: data per step.
        steps: steps per turn, on a CPU.
        particles: of the importance-weighted bound.
        shape: of a datum: (pixels,) for the fully connected nets, else (1, height, width).
        hidden: width of the hidden layers.
        latent: coordinates of the latent.
        channels: of the two convolutions.
    """

    title: str
    loss: str = "elbo"
    batch: int = 128
    steps: int = 20
    particles: int = 1
    shape: tuple[int, ...] = (784,)
    hidden: int = 200
    latent: int = 50
    channels: tuple[int, int] = (32, 64)

    @property
    def warm(self) -> int:
        """How many steps each contender takes before its time is taken."""
        return max(20, 5 * self.steps)

    @property
    def pixels(self) -> int:
        """How many pixels a datum has."""
        return int(torch.Size(self.shape).numel())

    @property
    def conv(self) -> bool:
        """Whether the nets are convolutional."""
        return len(self.shape) > 1

    @property
    def corner(self) -> tuple[int, int, int]:
        """Channels, height and width after the two convolutions, each of stride 2."""
        return (self.channels[1], -(-self.shape[-2] // 4), -(-self.shape[-1] // 4))

    def batches(self, n: int, device: torch.device, seed: int = 0) -> Tensor:
        """Draw binary images with structure, `(n, batch, *shape)`.

        Args:
            n: how many batches.
            device: where they shall lie.
            seed: of the draws.
        """
        factors = torch.randn(FACTORS, self.pixels, generator=torch.Generator().manual_seed(0))
        noise = torch.Generator().manual_seed(seed + 1)
        z = torch.randn(n, self.batch, FACTORS, generator=noise)
        x = torch.bernoulli(torch.sigmoid(2 * z @ factors), generator=noise)
        return x.reshape(n, self.batch, *self.shape).to(device)


CASES = {
    "vae": Case("VAE, 128 × 784"),
    "iwae": Case("IWAE, K = 50, 100 × 784", "iwae", batch=100, steps=2, particles=50),
    "conv": Case("convolutional VAE, 128 × 28 × 28", steps=2, shape=(1, 28, 28)),
    "wae": Case("WAE-MMD, 100 × 784", "wae", batch=100),
}


def images(n: int, device: torch.device) -> Tensor:
    """Draw n binary images, (n, 784), piece by piece, so that the peak is their own size."""
    case = CASES["vae"]
    x = torch.empty(n, case.pixels, device=device)
    for i, part in enumerate(x.split(case.batch)):
        part.copy_(case.batches(1, device, seed=i)[0, : len(part)])
    return x
