"""The Kumaraswamy distribution and its divergence from a Beta, without a truncated series."""

import copy
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Beta, constraints
from torch.distributions.kl import register_kl

EULER = 0.5772156649015329


class Kumaraswamy(TorchDistribution):
    r"""A distribution on the unit interval whose draws are differentiable in both shapes.

    .. math:: p(v) = a b v^{a - 1} (1 - v^a)^{b - 1}

    Kumaraswamy, 1980, A generalized probability density function for double-bounded random
    processes. Kumaraswamy(1, b) is Beta(1, b) and Kumaraswamy(a, 1) is Beta(a, 1).

    Args:
        a: First shape, (*batch), positive.
        b: Second shape, (*batch), positive.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> Kumaraswamy(torch.tensor(1.0), torch.tensor(2.0)).log_prob(torch.tensor(0.5))
        tensor(0.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "a": constraints.positive,
        "b": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, a: Tensor, b: Tensor, validate_args: bool | None = None) -> None:
        self.a, self.b = torch.broadcast_tensors(a, b)
        super().__init__(self.a.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Kumaraswamy":
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        new.a, new.b = self.a.expand(batch_shape), self.b.expand(batch_shape)
        return new

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients: (1 - (1 - u)^(1/b))^(1/a), kept off 0 and 1 by the precision."""
        shape = self._extended_shape(sample_shape)
        return self.icdf(torch.rand(shape, dtype=self.a.dtype, device=self.a.device))

    def icdf(self, value: Tensor) -> Tensor:
        """Return the quantiles of shares (..., *batch) of the unit interval, kept off 0 and 1."""
        info = torch.finfo(self.a.dtype)
        exponential = -torch.log1p(-value.clamp(min=info.eps))
        log_power = _log1mexp(exponential / self.b)
        return torch.exp(log_power / self.a).clamp(info.tiny, 1 - info.eps)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each coordinate, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        log_value = value.log()
        rest = torch.log(-torch.expm1(self.a * log_value))
        return self.a.log() + self.b.log() + (self.a - 1) * log_value + (self.b - 1) * rest

    def _log_moment(self, n: int) -> Tensor:
        """Return log E[v^n] = log b + log B(1 + n / a, b)."""
        first = 1 + n / self.a
        return self.b.log() + first.lgamma() + self.b.lgamma() - (first + self.b).lgamma()

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch)."""
        return self._log_moment(1).exp()

    @property
    def variance(self) -> Tensor:
        """The variance, (*batch)."""
        return self._log_moment(2).exp() - self.mean.square()

    def entropy(self) -> Tensor:
        """Return the entropy, in nats, (*batch)."""
        harmonic = torch.digamma(self.b + 1) + EULER
        return 1 - 1 / self.b + (1 - 1 / self.a) * harmonic - self.a.log() - self.b.log()


def _log1mexp(u: Tensor) -> Tensor:
    """Return log(1 - exp(-u)) for u > 0, to full precision at both ends."""
    small = torch.log(-torch.expm1(-u))
    large = torch.log1p(-torch.exp(-u.clamp(min=0.7)))
    return torch.where(u < 0.7, small, large)


def _exponential_rule(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return nodes and weights for the mean of a function of a standard exponential variable.

    The trapezoidal rule after t = exp(x - exp(-x)) (Takahasi and Mori, 1974), which converges
    exponentially for a function that is smooth in log t.
    """
    low, high, count = -3.2, 3.6, 48
    x = torch.linspace(low, high, count, dtype=dtype, device=device)
    t = torch.exp(x - torch.exp(-x))
    weight = (high - low) / (count - 1) * (1 + torch.exp(-x)) * t * torch.exp(-t)
    return t, weight


def _mean_log_complement(a: Tensor, b: Tensor) -> Tensor:
    """Return E[log(1 - v)] for v ~ Kumaraswamy(a, b).

    With v^a = 1 - exp(-t / b) and t a standard exponential variable, log(1 - v^a) = -t / b has the
    mean -1 / b. What remains, log((1 - v) / (1 - v^a)), runs smoothly from 0 to -log(a) and is left
    to quadrature. Beyond t / b = 60 it is constant to more than double precision.
    """
    t, weight = _exponential_rule(a.dtype, a.device)
    u = (t / b.unsqueeze(-1)).clamp(max=60.0)
    log_value = _log1mexp(u) / a.unsqueeze(-1)
    remainder = torch.log(-torch.expm1(log_value)) + u
    return (remainder * weight).sum(-1) - 1 / b


@register_kl(Kumaraswamy, Beta)  # type: ignore[untyped-decorator]
def _kl_kumaraswamy_beta(p: Kumaraswamy, q: Beta) -> Tensor:
    r"""Return KL(Kumaraswamy(a, b), Beta(alpha, beta)), in nats.

    .. math:: \log(ab) + \log B(\alpha, \beta) - \frac{b - 1}{b}
              - \frac{a - \alpha}{a} (\gamma + \psi(b) + 1/b) - (\beta - 1) E[\log(1 - v)]
    """
    a, b = p.a, p.b
    alpha, beta = q.concentration1, q.concentration0
    log_beta = alpha.lgamma() + beta.lgamma() - (alpha + beta).lgamma()
    mean_log = -(EULER + torch.digamma(b) + 1 / b) / a
    return (
        torch.log(a)
        + torch.log(b)
        + log_beta
        - (b - 1) / b
        + (a - alpha) * mean_log
        - (beta - 1) * _mean_log_complement(a, b)
    )
