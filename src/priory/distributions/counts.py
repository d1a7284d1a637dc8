"""Distributions over arrays of independent counts 0, 1, 2, ..."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from priory.distributions.independent import Factorised
from priory.distributions.stirling import HALF_LOG_TWO_PI, excess, stirling_rest

MOST = 30.0  # the largest size of a log rate and of a log dispersion


class Counts(Factorised):
    """Independent counts, given by the logarithms of their means.

    Args:
        log_rate: Logarithms of the means, (*batch, *event); kept in [-30, 30], beyond which the
            gradient is 0.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.
    """

    def __init__(self, log_rate: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate.clamp(-MOST, MOST)
        super().__init__(log_rate.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return the counts."""
        return constraints.independent(constraints.nonnegative_integer, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The means, (*batch, *event)."""
        return self.full(self.log_rate.exp())

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event)."""
        return self.each(value).sum(self.dims)

    def each(self, value: Tensor) -> Tensor:
        """Return the log mass of each count, of the shape of the values."""
        raise NotImplementedError


class IndependentPoisson(Counts):
    r"""Independent Poisson counts.

    .. math:: \log p(x) = \sum_i x_i \log r_i - r_i - \log x_i!

    It is written by the distance from the mean, so that large counts keep their digits: Loader,
    2000, Fast and accurate computation of binomial probabilities.

    Args:
        log_rate: Logarithms of the rates r, (*batch, *event); kept in [-30, 30].
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentPoisson(torch.zeros(3), 1).log_prob(torch.zeros(3))
        tensor(-3.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"log_rate": constraints.real}

    @property
    def variance(self) -> Tensor:
        """The variances, which are the means, (*batch, *event)."""
        return self.mean

    def each(self, value: Tensor) -> Tensor:
        """Return the log mass of each count, of the shape of the values."""
        count = value.clamp(min=1.0)
        distance = count * excess(self.log_rate - count.log())
        some = -distance - 0.5 * count.log() - HALF_LOG_TWO_PI - stirling_rest(count)
        return torch.where(value > 0, some, -self.log_rate.exp())

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw counts."""
        with torch.no_grad():
            return torch.poisson(self.log_rate.exp().expand(self._extended_shape(sample_shape)))


class IndependentNegativeBinomial(Counts):
    r"""Independent negative binomial counts, Poisson counts of a rate that is gamma distributed.

    .. math:: \log p(x) = \sum_i \log \frac{\Gamma(x_i + s_i)}{\Gamma(s_i) \, x_i!}
        + s_i \log \frac{s_i}{s_i + r_i} + x_i \log \frac{r_i}{s_i + r_i}, \quad s_i = 1 / a_i

    The mean is r and the variance r + a r^2. It is written by the distance from the mean, as the
    Poisson's is, to which it tends as a tends to 0.

    Args:
        log_rate: Logarithms of the means r, (*batch, *event); kept in [-30, 30].
        log_dispersion: Logarithms of the dispersions a, likewise or of a shape that broadcasts.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> counts = IndependentNegativeBinomial(torch.zeros(1), torch.zeros(1), 1)
        >>> counts.log_prob(torch.zeros(1)).exp()
        tensor(0.5000)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "log_rate": constraints.real,
        "log_dispersion": constraints.real,
    }

    def __init__(
        self,
        log_rate: Tensor,
        log_dispersion: Tensor,
        event_dim: int,
        validate_args: bool | None = None,
    ) -> None:
        self.log_dispersion = log_dispersion.clamp(-MOST, MOST).expand_as(log_rate)
        super().__init__(log_rate, event_dim, validate_args)

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event)."""
        return self.full(self.log_rate.exp() + (2 * self.log_rate + self.log_dispersion).exp())

    def each(self, value: Tensor) -> Tensor:
        """Return the log mass of each count, of the shape of the values."""
        count, log_size = value.clamp(min=1.0), -self.log_dispersion
        size, rate = log_size.exp(), self.log_rate.exp()
        both = count + size
        # How far the two shares of count + size are from those of their means.
        share = (count - rate) / (size + rate)
        far = both.log() - (size + rate).log()
        beside = torch.where(share < -0.5, far, torch.log1p(share.clamp(min=-0.5)))
        above = self.log_rate - count.log() + beside
        distance = size * excess(beside) + count * excess(above)
        rest = stirling_rest(both) - stirling_rest(size) - stirling_rest(count)
        # s / (s + x) and the square root that the formulas of Stirling leave.
        weight = 0.5 * (log_size - both.log() - count.log()) - HALF_LOG_TWO_PI
        none = size * logsigmoid(log_size - self.log_rate)
        return torch.where(value > 0, rest - distance + weight, none)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw counts: of a rate drawn from the gamma distribution."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            size = (-self.log_dispersion).exp().expand(shape)
            factor = torch._standard_gamma(size) / size
            return torch.poisson((self.log_rate.exp() * factor).clamp(max=1e15))


class ZeroInflated(Counts):
    r"""Independent counts that are 0 for another reason as well.

    .. math:: p(x) = g \, [x = 0] + (1 - g) \, p_0(x)

    Lambert, 1992, Zero-inflated Poisson regression, with an application to defects in
    manufacturing.

    Args:
        counts: The counts p_0.
        gate: Log-odds of g, (*batch, *event).

    Example:
        >>> one = IndependentPoisson(torch.zeros(1), 1)
        >>> ZeroInflated(one, torch.zeros(1)).mean
        tensor([0.5000])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"gate": constraints.real}

    def __init__(self, counts: Counts, gate: Tensor, validate_args: bool | None = None) -> None:
        self.counts, self.gate = counts, gate
        super().__init__(counts.log_rate, len(counts.event_shape), validate_args)

    @property
    def mean(self) -> Tensor:
        """The means, (*batch, *event)."""
        return self.full(torch.sigmoid(-self.gate) * self.log_rate.exp())

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event)."""
        share = torch.sigmoid(self.gate)
        spread = self.counts.variance + share * self.log_rate.exp().square()
        return self.full((1 - share) * spread)

    def each(self, value: Tensor) -> Tensor:
        """Return the log mass of each count, of the shape of the values."""
        counted = logsigmoid(-self.gate) + self.counts.each(value)
        return torch.where(value > 0, counted, torch.logaddexp(logsigmoid(self.gate), counted))

    def apart(self) -> ZeroInflated:
        """Return each coordinate's distribution: batch shape (*batch, *event), event (1,)."""
        counts = self.counts.apart()
        assert isinstance(counts, Counts)  # noqa: S101
        return ZeroInflated(counts, self.full(self.gate).unsqueeze(-1))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw counts."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            counts = self.counts.expand(self._batch_shape).sample(sample_shape)
            kept = torch.bernoulli(torch.sigmoid(-self.gate).expand(shape))
            return counts * kept
