"""What every autoregressive net is: a map of a datum whose outputs read what stands before them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from priory.part import Part, Shape

_ROWS = 1000  # at a time where no gradient is wanted


class AutoregressiveNet(Part):
    r"""A map from a datum and a given vector to parameters, those of i by what stands before i.

    .. math:: \theta_i = f_i(x_1, \dots, x_{i-1}, c)

    The constructor takes configuration alone; `build` makes the parameters when the shapes are
    known. The last layer's weights are zero at the start, where the output is a bias of its own.

    Attributes:
        bias: The outputs to start from, (params, *shape).
    """

    name: ClassVar[str]
    _kind = "net"
    bias: nn.Parameter

    def build(self, shape: Shape, params: int, given: int = 0) -> None:
        """Make the parameters; a second call with the same sizes does nothing.

        Args:
            shape: Of a datum.
            params: How many parameters each coordinate has.
            given: Number of coordinates of the given vector.

        Raises:
            ValueError: The net is already built for others, or does not suit the shape.
        """

        def make() -> None:
            self.bias = nn.Parameter(torch.zeros(params, *shape))
            self.make(shape, params, given)

        self.build_once((tuple(shape), params, given), make)

    @abstractmethod
    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the layers."""

    @abstractmethod
    def apply_flat(self, x: Tensor, given: Tensor) -> Tensor:
        """Map data (n, *shape) and vectors (n, given) to parameters (n, params, *shape)."""

    @abstractmethod
    def walk(self, seen: Tensor, given: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the places of a datum in their order, each with the parameters (n, params, *shape).

        Those at the place have read what was written into `seen` before it; others mean nothing.

        Args:
            seen: Data, (n, *shape), which the caller fills place by place.
            given: Vectors, (n, given).
        """

    @property
    @abstractmethod
    def places(self) -> int:
        """How many places there are to draw at, one after another."""

    def set_bias(self, value: Tensor) -> None:
        """Set the outputs to start from, (params, *shape)."""
        with torch.no_grad():
            self.bias.copy_(value)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Map data (*batch, *shape) and vectors (*batch, given) to (*batch, params, *shape).

        Raises:
            RuntimeError: The net is not built.
            ValueError: A datum's shape or a vector's width isn't what the net was built for.
        """
        self.check_built()
        shape, params, width = self.built_for
        cut = x.dim() - len(shape)
        if cut < 0 or x.shape[cut:] != shape or given.shape[-1] != width:
            raise ValueError(
                f"{type(self).__name__} expected data of shape (*batch, *{shape}) and vectors of "
                f"{width} numbers, got {tuple(x.shape)} and {tuple(given.shape)}"
            )
        lead = torch.broadcast_shapes(x.shape[:cut], given.shape[:-1])
        n = prod(lead)
        flat = x.expand(*lead, *shape).reshape(n, *shape), given.expand(*lead, -1).reshape(n, width)
        # An evaluation's blocks are sized by the data, and the hidden layers are much larger.
        size = n if torch.is_grad_enabled() else _ROWS
        blocks = zip(*(part.split(max(size, 1)) for part in flat), strict=True)
        out = [self.apply_flat(*block) for block in blocks]
        return (out[0] if len(out) == 1 else torch.cat(out)).reshape(*lead, params, *shape)
