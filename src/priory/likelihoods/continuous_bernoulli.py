"""Data in the unit interval."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.pixels import IndependentContinuousBernoulli, continuous_bernoulli_mean
from priory.likelihoods.base import Likelihood, extent


class ContinuousBernoulli(Likelihood):
    """Independent grey pixels in [0, 1]; one map of natural parameters.

    Loaiza-Ganem and Cunningham, 2019, The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders.
    """

    name = "continuous-bernoulli"

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is in [0, 1]."""
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(
                "the continuous Bernoulli likelihood expected values in [0, 1], got values in "
                f"{extent(x)}: scale the data to [0, 1], or use likelihood='normal'"
            )

    def bias(self, x: Tensor) -> Tensor:
        """Return the parameter whose mean is the training mean, by bisection."""
        mean = x.mean(0).clamp(0.001, 0.999)
        low, high = torch.full_like(mean, -1000.0), torch.full_like(mean, 1000.0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = continuous_bernoulli_mean(middle) > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (0.5 * (low + high)).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (logits,)."""
        return IndependentContinuousBernoulli(maps[0], event_dim)
