"""Relaxed bits, in the coordinates in which they have a density that never overflows."""

from __future__ import annotations

import math
from typing import Any

from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid


class LogOdds(constraints._Real):
    """The support of a prior of relaxed bits: real numbers, whose posterior is relaxed as well."""


log_odds = LogOdds()


class LogitConcrete(TorchDistribution):
    r"""The log-odds of a binary Concrete variable.

    .. math:: z = (a + L) / \lambda, \quad L \sim \mathrm{Logistic}(0, 1), \qquad
        \log p(z) = \log \lambda + \log \sigma(u) + \log \sigma(-u), \quad u = \lambda z - a

    :math:`\sigma(z)` tends to a bit of log-odds a as the temperature :math:`\lambda` falls to 0.
    Maddison, Mnih and Teh, 2017, The Concrete distribution: a continuous relaxation of discrete
    random variables; Jang, Gu and Poole, 2017, Categorical reparameterization with Gumbel-softmax.

    Args:
        log_odds: a, (*batch).
        temperature: lambda, positive.
        validate_args: Whether to check parameters and values.
    """

    arg_constraints = {"log_odds": constraints.real}  # noqa: RUF012
    support = constraints.real
    has_rsample = True

    def __init__(
        self, log_odds: Tensor, temperature: float, validate_args: bool | None = None
    ) -> None:
        self.log_odds, self.temperature = log_odds, temperature
        super().__init__(log_odds.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch)."""
        return self.log_odds / self.temperature

    @property
    def variance(self) -> Tensor:
        """The variance, (*batch)."""
        return self.log_odds.new_full((), math.pi**2 / 3 / self.temperature**2).expand(
            self.batch_shape
        )

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogitConcrete:
        """Return the distribution with another batch shape."""
        return LogitConcrete(self.log_odds.expand(batch_shape), self.temperature, False)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw log-odds, (*sample_shape, *batch)."""
        shape = self._extended_shape(sample_shape)
        first, second = (self.log_odds.new_empty(shape).exponential_().log() for _ in range(2))
        return (self.log_odds + first - second) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density, in nats, (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        u = self.temperature * value - self.log_odds
        return math.log(self.temperature) + logsigmoid(u) + logsigmoid(-u)
