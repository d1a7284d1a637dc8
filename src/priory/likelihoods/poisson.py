"""Counts whose variance is their mean."""

from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.counts import IndependentPoisson
from priory.likelihoods.counts import CountHead, log_mean


class Poisson(CountHead):
    r"""Independent Poisson counts; one map of the logarithms of their means.

    .. math:: x_i \sim \mathrm{Poisson}(e^{m_i})

    Log rates are kept in [-30, 30].

    Example:
        >>> import torch
        >>> head = Poisson()
        >>> head.build(torch.arange(10.0).unsqueeze(1))
        >>> head(torch.zeros(5, 1, 1)).mean.shape
        torch.Size([5, 1])
    """

    name = "poisson"

    def bias(self, x: Tensor) -> Tensor:
        """Return the logarithm of the training mean."""
        return log_mean(x).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log rates,)."""
        return IndependentPoisson(maps[0], event_dim)
