"""Counts with zeros of another kind: cells that were not looked at, things that are not there."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.counts import IndependentPoisson, ZeroInflated
from priory.likelihoods.counts import CountHead, gate, log_dispersion, log_mean
from priory.likelihoods.negative_binomial import Dispersed


class ZeroInflatedPoisson(CountHead):
    r"""Independent Poisson counts with more zeros; maps of log means and of log-odds of a zero.

    .. math:: p(x_i) = g_i [x_i = 0] + (1 - g_i) \, \mathrm{Poisson}(x_i; e^{m_i})

    Lambert, 1992, Zero-inflated Poisson regression, with an application to defects in
    manufacturing.

    Example:
        >>> head = ZeroInflatedPoisson()
        >>> head.build(torch.arange(10.0).unsqueeze(1))
        >>> head(torch.zeros(5, 2, 1)).mean.shape
        torch.Size([5, 1])
    """

    name = "zero-inflated-poisson"
    params = 2

    def bias(self, x: Tensor) -> Tensor:
        """Return maps of which the mean is the training mean, with as many zeros as there are."""
        odds = gate(x, (-log_mean(x).exp()).exp())
        return torch.stack([log_mean(x) - torch.sigmoid(-odds).log(), odds])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log means, log-odds of a zero)."""
        return ZeroInflated(IndependentPoisson(maps[0], event_dim), maps[1])


class ZeroInflatedNegativeBinomial(Dispersed):
    r"""Independent negative binomial counts with more zeros.

    .. math:: p(x_i) = g_i [x_i = 0] + (1 - g_i) \, \mathrm{NB}(x_i; e^{m_i}, a_i)

    The maps are of log means, of log-odds of a zero and, per cell, of log dispersions. Greene,
    1994, Accounting for excess zeros and sample selection in Poisson and negative binomial
    regression models.

    Args:
        dispersion: "column" for one a of each coordinate learned with the decoder, "cell" for one
            from the decoder at every coordinate, or a fixed number.

    Raises:
        ValueError: The dispersion is neither of the words nor a positive number.

    Example:
        >>> head = ZeroInflatedNegativeBinomial()
        >>> head.build(torch.arange(10.0).unsqueeze(1))
        >>> head(torch.zeros(5, 2, 1)).mean.shape
        torch.Size([5, 1])
    """

    name = "zero-inflated-negative-binomial"
    maps = 3

    def bias(self, x: Tensor) -> Tensor:
        """Return maps of which the mean is the training mean, with as many zeros as there are."""
        spread = log_dispersion(x)
        size = (-spread).exp()
        odds = gate(x, (-size * (log_mean(x) + spread).exp().log1p()).exp())
        rates = log_mean(x) - torch.sigmoid(-odds).log()
        return torch.stack([rates, odds] + ([spread] if self.dispersion == "cell" else []))

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log means, log-odds of a zero, ...)."""
        return ZeroInflated(self.dispersed(maps, event_dim), maps[1])
