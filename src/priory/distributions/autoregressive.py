"""A distribution whose coordinates are drawn one after another, each given those before it."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor


class Conditionals(Protocol):
    """What knows each coordinate's distribution given those before it: a module."""

    def conditionals(self, x: Tensor, given: Tensor) -> TorchDistribution:
        """Return the distribution of all coordinates, those of i given x before i alone.

        Args:
            x: Data, (*batch, *event).
            given: What all coordinates are given, (*batch, k); the two broadcast.
        """

    def draw(self, given: Tensor) -> Tensor:
        """Draw data (n, *event), coordinate by coordinate, for given vectors (n, k)."""


class Autoregressive(TorchDistribution):
    r"""A density by the chain rule: scored in one pass, drawn in one pass for each coordinate.

    .. math:: \log p(x \mid c) = \sum_i \log p(x_i \mid x_1, \dots, x_{i-1}, c)

    It has no mean in closed form, and its draws are constants to autograd.

    Args:
        source: What knows the conditionals.
        given: c, (*batch, k); k may be 0.
        support: Of a datum, a torch constraint over events.
        shape: The event's shape.
        validate_args: Whether to check values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        source: Conditionals,
        given: Tensor,
        support: Any,
        shape: tuple[int, ...],
        validate_args: bool | None = None,
    ) -> None:
        self.source, self.given, self._support = source, given, support
        super().__init__(given.shape[:-1], Size(shape), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Where a datum may lie."""
        return self._support

    @property
    def mean(self) -> Tensor:
        """There is none in closed form.

        Raises:
            NotImplementedError: Always; the mean of many draws is near it.
        """
        raise NotImplementedError("an autoregressive distribution has no mean in closed form")

    def expand(self, batch_shape: Size, _instance: Any = None) -> Autoregressive:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new.given = self.given.expand(*batch_shape, self.given.shape[-1])
        new._batch_shape = Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of events (..., *event), in nats; values and batch broadcast."""
        if self._validate_args:
            self._validate_sample(value)
        density = self.source.conditionals(value, self.given).log_prob(value)
        return density.expand(torch.broadcast_shapes(self._batch_shape, density.shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw events, (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            width = self.given.shape[-1]
            lead = Size(sample_shape) + self._batch_shape
            drawn = self.source.draw(self.given.expand(*lead, width).reshape(lead.numel(), width))
            return drawn.reshape(lead + self._event_shape)
