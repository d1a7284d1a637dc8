"""Distributions over arrays of independent real, positive or unit numbers beside the normal."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from priory.distributions.independent import Factorised
from priory.distributions.stirling import HALF_LOG_TWO_PI, excess, stirling_rest

_FARTHEST = 1e15  # in standard deviations, beyond which a Student t density is flat
_LEAST, _MOST = -10.0, 15.0  # of a log shape or log concentration
_ODDS = 15.0  # the largest size of a beta mean's log-odds
_SIZE = 30.0  # the largest size of a gamma mean's logarithm, about its unit's


class IndependentStudentT(Factorised):
    r"""Independent coordinates with heavy tails.

    .. math:: \log p(x) = \sum_i \log \frac{\Gamma(\frac{n + 1}{2})}
        {\Gamma(\frac n 2) \sqrt{\pi n} \, s_i}
        - \tfrac{n + 1}{2} \log \Bigl(1 + \frac{(x_i - m_i)^2}{n s_i^2}\Bigr)

    Args:
        loc: Centres m, (*batch, *event).
        log_scale: Logarithms of the scales s, (*batch, *event) or of a shape that broadcasts.
        df: Degrees of freedom n, above 1.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentStudentT(torch.zeros(1), torch.zeros(1), 3.0, 1).log_prob(torch.zeros(1))
        tensor(-1.0009)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "log_scale": constraints.real,
    }

    def __init__(
        self,
        loc: Tensor,
        log_scale: Tensor,
        df: float,
        event_dim: int,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.log_scale, self.df = loc, log_scale.expand_as(loc), df
        super().__init__(loc.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the real numbers."""
        return constraints.independent(constraints.real, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The means, (*batch, *event)."""
        return self.full(self.loc)

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event); infinite up to two degrees of freedom."""
        factor = self.df / (self.df - 2) if self.df > 2 else math.inf
        return self.full(factor * (2 * self.log_scale).exp())

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        noise = (value - self.loc) * torch.exp(-self.log_scale)
        noise = noise.clamp(-_FARTHEST, _FARTHEST) / math.sqrt(self.df)
        tail = (self.df + 1) * torch.hypot(torch.ones_like(noise), noise).log()
        half = 0.5 * self.df
        constant = math.lgamma(half + 0.5) - math.lgamma(half) - 0.5 * math.log(math.pi * self.df)
        return (constant - tail - self.log_scale).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw a normal number over the root of a mean square."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            half = self.loc.new_full(shape, 0.5 * self.df)
            noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            square = (torch._standard_gamma(half) / half).clamp(min=1e-12)
            return self.loc + self.log_scale.exp() * noise * square.rsqrt()


class IndependentGamma(Factorised):
    r"""Independent positive coordinates, given by mean and shape.

    .. math:: \log p(x) = \sum_i k_i \log \frac{k_i x_i}{m_i} - \frac{k_i x_i}{m_i} - \log x_i
        - \log \Gamma(k_i)

    The mean is m and the variance m^2 / k. It is written by the distance from the mean, so that
    large shapes keep their digits.

    Args:
        log_mean: Logarithms of m, (*batch, *event).
        log_shape: Logarithms of k, (*batch, *event) or of a shape that broadcasts; kept in
            [-10, 15], beyond which the gradient is 0.
        event_dim: How many of the last dims are one event.
        log_unit: Logarithms of the units about which the means are kept: within e^30 of them.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentGamma(torch.zeros(1), torch.zeros(1), 1).log_prob(torch.ones(1))
        tensor(-1.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "log_mean": constraints.real,
        "log_shape": constraints.real,
    }

    def __init__(
        self,
        log_mean: Tensor,
        log_shape: Tensor,
        event_dim: int,
        log_unit: Tensor | float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        self.log_mean = log_unit + (log_mean - log_unit).clamp(-_SIZE, _SIZE)
        self.log_shape = log_shape.clamp(_LEAST, _MOST).expand_as(self.log_mean)
        super().__init__(self.log_mean.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the positive numbers."""
        return constraints.independent(constraints.positive, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The means, (*batch, *event)."""
        return self.full(self.log_mean.exp())

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event)."""
        return self.full((2 * self.log_mean - self.log_shape).exp())

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        shape, log_value = self.log_shape.exp(), value.log()
        distance = shape * excess((log_value - self.log_mean).clamp(max=60.0))
        constant = 0.5 * self.log_shape - HALF_LOG_TWO_PI - stirling_rest(shape)
        return (constant - distance - log_value).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw positive numbers."""
        with torch.no_grad():
            shape = self.log_shape.exp().expand(self._extended_shape(sample_shape))
            drawn = self.log_mean.exp() * torch._standard_gamma(shape) / shape
            return drawn.clamp(min=torch.finfo(drawn.dtype).tiny)


class IndependentBeta(Factorised):
    r"""Independent coordinates between 0 and 1, given by mean and concentration.

    .. math:: \log p(x) = \sum_i (a_i - 1) \log x_i + (b_i - 1) \log (1 - x_i) - \log B(a_i, b_i),
        \quad a_i = c_i m_i, \quad b_i = c_i (1 - m_i)

    The variance is m (1 - m) / (1 + c). It is written by the distance from the mean.

    Args:
        logits: Log-odds of the means m, (*batch, *event); kept in [-15, 15], beyond which the
            gradient is 0.
        log_concentration: Logarithms of c, (*batch, *event) or of a shape that broadcasts; kept in
            [-10, 15].
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> even = torch.full((1,), 2.0).log()
        >>> IndependentBeta(torch.zeros(1), even, 1).log_prob(torch.full((1,), 0.3)).abs() < 1e-6
        tensor(True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real,
        "log_concentration": constraints.real,
    }

    def __init__(
        self,
        logits: Tensor,
        log_concentration: Tensor,
        event_dim: int,
        validate_args: bool | None = None,
    ) -> None:
        self.logits = logits.clamp(-_ODDS, _ODDS)
        self.log_concentration = log_concentration.clamp(_LEAST, _MOST).expand_as(logits)
        super().__init__(logits.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the unit interval."""
        return constraints.independent(constraints.unit_interval, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The means, (*batch, *event)."""
        return self.full(torch.sigmoid(self.logits))

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event)."""
        return self.mean * torch.sigmoid(-self.logits) / (1 + self.log_concentration.exp())

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        log_value, log_other = value.log(), torch.log1p(-value)
        log_mean, log_rest = logsigmoid(self.logits), logsigmoid(-self.logits)
        log_a, log_b = self.log_concentration + log_mean, self.log_concentration + log_rest
        a, b = log_a.exp(), log_b.exp()
        distance = a * excess(log_value - log_mean) + b * excess(log_other - log_rest)
        rest = stirling_rest(a + b) - stirling_rest(a) - stirling_rest(b)
        weight = 0.5 * (log_a + log_b - self.log_concentration) - HALF_LOG_TWO_PI
        return (rest + weight - distance - log_value - log_other).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw numbers between 0 and 1, neither of which is drawn."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            full = self.log_concentration.exp().expand(shape)
            both = torch.stack([full * torch.sigmoid(s * self.logits) for s in (1, -1)])
            drawn = torch._sample_dirichlet(both.movedim(0, -1))[..., 0]
            limits = torch.finfo(drawn.dtype)
            return drawn.clamp(limits.tiny, 1 - limits.eps)
