"""Distributions over arrays of independent coordinates, summed in one go; here the normal.

Each is what the library's element-wise distribution under `to_event` is, with two differences that
matter in a training loop: parameters are never copied out to the shape of the particles, and a log
density costs a handful of tensor operations.
"""

import copy
import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, constraints
from torch.distributions.kl import kl_divergence, register_kl


def of_one_number(support: Any) -> Any:
    """Return the constraint of one number of a distribution's support, whatever its event dims."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


class Factorised(TorchDistribution):
    """Independent coordinates whose last `event_dim` dims form the event.

    Args:
        shape: The joint shape (*batch, *event) of the parameters.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.
    """

    def __init__(self, shape: Size, event_dim: int, validate_args: bool | None = None) -> None:
        cut = len(shape) - event_dim
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    @abstractmethod
    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""

    @property
    def dims(self) -> tuple[int, ...]:
        """The event's dims, counted from the end."""
        return tuple(range(-len(self._event_shape), 0))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each event, in nats; values and parameters broadcast."""
        if self._validate_args:
            self._validate_sample(value)
        density = self.density(value)
        if density.shape == self._batch_shape:
            return density
        return density.expand(torch.broadcast_shapes(self._batch_shape, density.shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Factorised":
        """Return the same distribution for a larger batch, sharing the parameters."""
        batch_shape = Size(batch_shape)
        if batch_shape == self._batch_shape:
            return self
        lead = len(batch_shape) - len(self._batch_shape)
        pairs = zip(self._batch_shape, batch_shape[lead:], strict=True) if lead >= 0 else ()
        if lead < 0 or any(old not in (1, new) for old, new in pairs):
            raise ValueError(
                f"cannot expand batch shape {tuple(self._batch_shape)} to {tuple(batch_shape)}"
            )
        new = copy.copy(self)
        new._batch_shape = batch_shape
        return new

    def apart(self) -> "Factorised":
        """Return each coordinate's distribution: batch shape (*batch, *event), event (1,)."""
        new = copy.copy(self)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).unsqueeze(-1))
        new._batch_shape = self._batch_shape + self._event_shape
        new._event_shape = Size((1,))
        return new

    def full(self, tensor: Tensor) -> Tensor:
        """Expand a parameter to the shape (*batch, *event)."""
        return tensor.expand(self._batch_shape + self._event_shape)


class IndependentNormal(Factorised):
    r"""Independent normal coordinates, given by mean and log standard deviation.

    .. math:: \log p(x) = -\sum_i \tfrac12 ((x_i - m_i) / s_i)^2 + \log s_i + \tfrac12 \log 2\pi

    Args:
        loc: Means m, (*batch, *event).
        log_scale: Logarithms of the standard deviations s, (*batch, *event) or ().
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentNormal(torch.zeros(3), torch.zeros(()), 1).log_prob(torch.zeros(3))
        tensor(-2.7568)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "log_scale": constraints.real,
    }
    has_rsample = True

    def __init__(
        self, loc: Tensor, log_scale: Tensor, event_dim: int, validate_args: bool | None = None
    ) -> None:
        self.loc = loc
        self.log_scale = log_scale
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
    def scale(self) -> Tensor:
        """The standard deviations, (*batch, *event)."""
        return self.full(self.log_scale.exp())

    @property
    def stddev(self) -> Tensor:
        """The standard deviations, (*batch, *event)."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """The variances, (*batch, *event)."""
        return self.full((2 * self.log_scale).exp())

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the event what may be shared by its coordinates."""
        if tensor.dim() < len(self._event_shape):
            tensor = tensor.expand(self._event_shape)
        return tensor.sum(self.dims)

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        noise = (value - self.loc) * torch.exp(-self.log_scale)
        constant = 0.5 * math.log(2 * math.pi) * self._event_shape.numel()
        squares = noise.square().sum(self.dims).mul(-0.5).sub(constant)
        return squares.sub(self.total(self.log_scale))

    def entropy(self) -> Tensor:
        """Return the entropy, in nats, (*batch)."""
        constant = 0.5 * (1 + math.log(2 * math.pi)) * self._event_shape.numel()
        return (self.total(self.log_scale) + constant).expand(self._batch_shape)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients: m + s e, with e standard normal."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, self.log_scale.exp(), noise)


class StandardNormal(IndependentNormal):
    r"""Independent standard normal coordinates.

    .. math:: \log p(x) = -\tfrac12 \sum_i x_i^2 + \log 2\pi

    Args:
        zeros: Zeros of the shape (*batch, *event).
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.
    """

    def __init__(self, zeros: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        super().__init__(zeros, zeros, event_dim, validate_args)

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        constant = math.log(2 * math.pi) * self._event_shape.numel()
        return value.square().sum(self.dims).add(constant).mul(-0.5)


@register_kl(IndependentNormal, IndependentNormal)  # type: ignore[untyped-decorator]
def _kl_normals(p: IndependentNormal, q: IndependentNormal) -> Tensor:
    ratio = 2 * (p.log_scale - q.log_scale)
    shift = (p.loc - q.loc) * torch.exp(-q.log_scale)
    divergence = 0.5 * (ratio.exp() + shift.square() - 1 - ratio).sum(p.dims)
    return divergence.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


def _to_library(p: IndependentNormal) -> Distribution:
    return Independent(Normal(p.mean, p.scale), len(p.event_shape))


@register_kl(IndependentNormal, Independent)  # type: ignore[untyped-decorator]
def _kl_to_library(p: IndependentNormal, q: Independent[Any]) -> Tensor:
    return kl_divergence(_to_library(p), q)


@register_kl(Independent, IndependentNormal)  # type: ignore[untyped-decorator]
def _kl_from_library(p: Independent[Any], q: IndependentNormal) -> Tensor:
    return kl_divergence(p, _to_library(q))
