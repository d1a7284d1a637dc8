"""Standard normal noise behind an invertible map."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.flow import in_full


class Invertible(Protocol):
    """An invertible map of events that keeps their shape: a module."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (*batch, *shape) to the same shape, and to log |det| of the Jacobian, (*batch)."""

    def inverse(self, y: Tensor) -> Tensor:
        """Map (*batch, *shape) back."""


class NormalFlow(TorchDistribution):
    r"""What an invertible map brings to standard normal noise.

    .. math:: \log p(x) = \log N(f(x); 0, I) + \log |\det \partial f / \partial x|, \qquad
        f = f_T \circ \dots \circ f_1

    It has no mean in closed form. Maps are taken without autocast: slopes in half precision would
    not be the maps' own.

    Args:
        maps: f, from data to noise, the first applied first.
        shape: Of an event.
        like: Any tensor of the draws' dtype and device.
        validate_args: Whether to check values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self,
        maps: Sequence[Invertible],
        shape: tuple[int, ...],
        like: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.maps, self.like = tuple(maps), like
        super().__init__(Size(), Size(shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the reals."""
        return constraints.independent(constraints.real, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """There is none in closed form.

        Raises:
            NotImplementedError: Always; the mean of many draws is near it.
        """
        raise NotImplementedError("a flow has no mean in closed form")

    def expand(self, batch_shape: Size, _instance: Any = None) -> NormalFlow:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def noise(self, x: Tensor) -> Tensor:
        """Return f of events (..., *event), the noise that they are drawn from."""
        with in_full(x):
            for f in self.maps:
                x = f(x)[0]
        return x

    def data(self, noise: Tensor) -> Tensor:
        """Return the events of noise, by the inverse of f, (..., *event)."""
        with in_full(noise):
            for f in reversed(self.maps):
                noise = f.inverse(noise)
        return noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of events (..., *event), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        slopes, dims = value.new_zeros(()), (*range(-len(self._event_shape), 0),)
        with in_full(value):
            for f in self.maps:
                value, slope = f(value)
                slopes = slopes + slope
            noise = 0.5 * (value.square() + math.log(2 * math.pi))
            density: Tensor = slopes - (noise.sum(dims) if dims else noise)
        return density.expand(torch.broadcast_shapes(density.shape, self._batch_shape))

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients, by the inverse."""
        shape = self._extended_shape(sample_shape)
        return self.data(torch.randn(shape, dtype=self.like.dtype, device=self.like.device))
