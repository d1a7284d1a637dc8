"""Data at evenly spaced levels as real numbers rounded down, and the noise that undoes it."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.pixels import LEVELS

_OFF = 1e-3  # of a level: what roundings may take off a datum


class Floor(TorchDistribution):
    r"""The level below a real number: all mass is there.

    .. math:: p(x \mid z) = \prod_i [x_i \, t = \lfloor z_i \rfloor], \qquad x_i \in \{0, 1/t,
        \dots, 1\}

    What lies below 0 or above t belongs to the lowest and to the highest level. It has no gradient.

    Args:
        z: Real numbers, (*batch, *event).
        top: t, the number of the highest level, ().
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check values; the global default if None.

    Example:
        >>> Floor(torch.tensor([0.3, 2.9]), torch.tensor(4.0), 1).sample()
        tensor([0.0000, 0.5000])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, z: Tensor, top: Tensor, event_dim: int, validate_args: bool | None = None
    ) -> None:
        self.z, self.top = z, top
        cut = z.dim() - event_dim
        super().__init__(z.shape[:cut], z.shape[cut:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return the levels, which are masses, between 0 and 1."""
        return constraints.independent(LEVELS, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The level, (*batch, *event)."""
        return self._level() / self.top

    @property
    def variance(self) -> Tensor:
        """Zero, (*batch, *event)."""
        return torch.zeros_like(self.z)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Floor:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new.z = self.z.expand(Size(batch_shape) + self._event_shape)
        new._batch_shape = Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log mass of events (..., *event): 0 at their levels, else -inf."""
        if self._validate_args:
            self._validate_sample(value)
        off = (value * self.top - self._level()).abs() > _OFF
        dims = (*range(-len(self._event_shape), 0),)
        return torch.where(off.any(dims) if dims else off, -torch.inf, self.top.new_zeros(()))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Return the levels."""
        with torch.no_grad():
            return self.mean.expand(self._extended_shape(sample_shape)).clone()

    def _level(self) -> Tensor:
        """Return the numbers of the levels."""
        return torch.minimum(self.z.detach().floor().clamp(min=0), self.top)


class Dequantized(TorchDistribution):
    r"""Levels with noise that fills the distance to the next one.

    .. math:: z = x \, t + u, \quad u \in (0, 1)^d; \qquad
        q(z \mid x) = 1 \quad \text{or} \quad q(s \mid x) \prod_i \frac{1}{u_i (1 - u_i)}, \quad
        s = \log \frac{u}{1 - u}

    The noise is kept off 0 and 1 by a rounding of the highest level, so that z x_i never rounds to
    another one. Theis, van den Oord and Bethge, 2016, A note on the evaluation of generative
    models (uniform noise); Ho et al., 2019, Flow++ (a distribution of the noise).

    Args:
        x: Data, (*batch, *event), levels 0, 1/t, ..., 1.
        top: t, the number of the highest level, ().
        event_dim: How many of the last dims are one event.
        noise: Of the log-odds s, batch shape (*batch), event shape (d,); None for uniform u.
        validate_args: Whether to check values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self,
        x: Tensor,
        top: Tensor,
        event_dim: int,
        noise: TorchDistribution | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.level, self.top, self.noise = (x * top).round(), top, noise
        cut = x.dim() - event_dim
        super().__init__(x.shape[:cut], x.shape[cut:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the reals."""
        return constraints.independent(constraints.real, len(self._event_shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> Dequantized:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new.level = self.level.expand(Size(batch_shape) + self._event_shape)
        new.noise = None if self.noise is None else self.noise.expand(batch_shape)
        new._batch_shape = Size(batch_shape)
        return new

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients."""
        shape = self._extended_shape(sample_shape)
        if self.noise is None:
            u = torch.rand(shape, dtype=self.level.dtype, device=self.level.device)
        else:
            u = self.noise.rsample(sample_shape).reshape(shape).sigmoid()
        return self.level + self._inside(u)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of real numbers (..., *event), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        u = value - self.level
        outside = (u < 0) | (u > 1)
        dims = (*range(-len(self._event_shape), 0),)
        outside = outside.any(dims) if dims else outside
        if self.noise is None:
            return torch.where(outside, -torch.inf, self.top.new_zeros(()))
        inner = self._inside(u)
        inner = inner.flatten(inner.dim() - len(dims)) if dims else inner.unsqueeze(-1)
        one, other = inner.log(), (-inner).log1p()
        density = self.noise.log_prob(one - other) - (one + other).sum(-1)
        return torch.where(outside, -torch.inf, density)

    def _inside(self, u: Tensor) -> Tensor:
        """Return noise that is kept off 0 and 1."""
        least = (self.top + 1) * torch.finfo(self.level.dtype).eps
        return u.clamp(least, 1 - least)
