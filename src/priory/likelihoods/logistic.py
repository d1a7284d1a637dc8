"""Data at evenly spaced levels, such as the greys of eight bits."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.pixels import IndependentLogistic
from priory.likelihoods.base import Likelihood, extent


class DiscretizedLogistic(Likelihood):
    """Independent pixels at evenly spaced levels of [0, 1]; maps of centres and of log scales.

    Salimans, Karpathy, Chen and Kingma, 2017, PixelCNN++.

    Args:
        levels: How many levels there are: 256 for eight-bit greys divided by 255.

    Raises:
        ValueError: There are fewer than two levels.
    """

    name = "logistic"
    params = 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.levels = levels

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is one of the levels."""
        top = self.levels - 1
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(
                f"the discretised logistic likelihood expected values k / {top} in [0, 1], got "
                f"values in {extent(x)}: divide the data by their largest possible value"
            )
        if ((x * top - (x * top).round()).abs() > 1e-3).any():
            raise ValueError(
                f"the discretised logistic likelihood expected values k / {top}, got values "
                f"between those in {extent(x)}: round them, or use "
                "likelihood='continuous-bernoulli'"
            )

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and the log scale of the same standard deviation."""
        spread = x.std(0, correction=0).clamp(min=0.5 / (self.levels - 1))
        return torch.stack([x.mean(0), (spread * math.sqrt(3) / math.pi).log()])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (centres, log scales)."""
        return IndependentLogistic(maps[0], maps[1], self.levels, event_dim)
