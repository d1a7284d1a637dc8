"""A normal distribution around a mean that is itself uncertain, by its expected log density."""

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints, kl_divergence
from torch.distributions.kl import register_kl

from priory.distributions.independent import IndependentNormal


class ExpectedNormal(IndependentNormal):
    r"""Independent normal coordinates around means with a variance of their own.

    .. math:: E_{f_i \sim N(m_i, v_i)} \log N(x_i; f_i, s_i^2) =
        \log N(x_i; m_i, s_i^2) - \tfrac{v_i}{2 s_i^2}

    is what it scores. It is less than the log density of its draws, log N(x; m, s^2 + v), and in
    its place where f of one row depends on f of another: a sum over rows bounds their joint
    log density from below. Titsias, 2009, Variational learning of inducing variables in sparse
    Gaussian processes.

    Args:
        loc: Means m, (*batch, *event).
        log_scale: Logarithms of s, (*batch, *event) or ().
        uncertainty: v, (*batch, *event).
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> zeros = torch.zeros(3)
        >>> ExpectedNormal(zeros, torch.zeros(()), zeros + 2, 1).log_prob(zeros)
        tensor(-5.7568)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        **IndependentNormal.arg_constraints,
        "uncertainty": constraints.nonnegative,
    }

    def __init__(
        self,
        loc: Tensor,
        log_scale: Tensor,
        uncertainty: Tensor,
        event_dim: int,
        validate_args: bool | None = None,
    ) -> None:
        self.uncertainty = uncertainty
        super().__init__(loc, log_scale, event_dim, validate_args)

    @property
    def scale(self) -> Tensor:
        """The standard deviations of the draws, (*batch, *event)."""
        return self.variance.sqrt()

    @property
    def variance(self) -> Tensor:
        """The variances of the draws, (*batch, *event)."""
        return self.full((2 * self.log_scale).exp() + self.uncertainty)

    def density(self, value: Tensor) -> Tensor:
        """Return the expected log density of events of shape (..., *event)."""
        return super().density(value) - self.lost()

    def lost(self) -> Tensor:
        """Return the sum of v / 2 s^2, (*batch), in nats."""
        return (self.uncertainty * torch.exp(-2 * self.log_scale)).sum(self.dims) / 2

    def entropy(self) -> Tensor:
        """Return the entropy of the draws, in nats, (*batch)."""
        return (0.5 * (2 * math.pi * math.e * self.variance).log()).sum(self.dims)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw m + (s^2 + v)^(1/2) e, with e standard normal."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.variance.sqrt() * noise


@register_kl(IndependentNormal, ExpectedNormal)  # type: ignore[untyped-decorator]
def _kl_to_expected(p: IndependentNormal, q: ExpectedNormal) -> Tensor:
    """Return the mean over p of log p less what q scores."""
    around = IndependentNormal(q.loc, q.log_scale, len(q.event_shape))
    return kl_divergence(p, around) + q.lost()
