"""What every likelihood is: a head that turns a decoder's features into p(x | .)."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.likelihoods.values import REACH, is_bounded, is_table, span, squashed, units
from priory.part import Part, Shape


def extent(x: Tensor) -> str:
    """Return the range of values, for a message."""
    return f"[{x.min().item():.4g}, {x.max().item():.4g}]"


class Likelihood(Part):
    """A head over features of shape (*batch, params, *shape), with one map for each parameter."""

    name: ClassVar[str]
    _kind = "likelihood"
    params: int = 1

    @property
    def shape(self) -> Shape | None:
        """The shape of a datum, None before the head is built."""
        return self.built_for

    def build(self, x: Tensor) -> None:
        """Learn the datum's shape and make the head's own parameters.

        Args:
            x: Training data, (n, *shape).

        Raises:
            ValueError: It is built for another shape, or has the units of other data.
        """
        shape = tuple(x.shape[1:])
        if self.built_for == shape and [*self.parameters(), *self.buffers()]:
            raise ValueError(
                f"{type(self).__name__} has the units of other data; give each pair a likelihood "
                "of its own"
            )
        self.build_once(shape, lambda: self.make(x))

    def make(self, x: Tensor) -> None:
        """Make the head's own parameters, where it has any."""

    def check(self, x: Tensor) -> None:
        """Raise ValueError when the data, (n, *shape), are outside the support."""

    def scaled(self, x: Tensor) -> Tensor:
        """Return data (*batch, *shape) in units in which they are of the order of one."""
        return x

    def read(self, x: Tensor) -> Tensor:
        """Return what an encoder or a critic is to read of data (*batch, *shape)."""
        return self.drawn_in(self.scaled(x))

    def drawn_in(self, x: Tensor) -> Tensor:
        """Return scaled data with the odd values of a table drawn in."""
        return x

    def span(self, x: Tensor, output: str) -> None:
        """Take units in which the training data, (n, *shape), fill the range of a net's outputs.

        Args:
            x: Training data.
            output: "linear", "sigmoid" or "tanh".
        """

    def bias(self, x: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return where the decoder's output may start, (params, *shape), None for anywhere.

        Args:
            x: Training data, (n, *shape).
        """
        return None

    @abstractmethod
    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution with the given parameter maps, each (*batch, *shape)."""

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution, event shape (*shape), for features (*batch, params, *shape).

        Raises:
            RuntimeError: The head is not built.
        """
        self.check_built()
        event_dim = len(self.built_for)
        dim = -event_dim - 1
        one = features.shape[dim] == 1  # then a view, whose gradient is one too
        maps = (features.squeeze(dim),) if one else features.unbind(dim)
        return self.distribution(maps, event_dim)


_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
FORMER = {"centre": 0.0, "unit": 1.0, "reach": math.inf}  # of a head that was saved without


class Real(Likelihood):
    """A head of real numbers, between whose units and the nets' there is a shift and a scale.

    Columns of a table have any size: a_i and b_i are a column's mean and standard deviation over
    the training rows, unless the data are bounded, when they are 0 and 1. Nets see (x - a) / b, of
    the order of one, and that beyond five standard deviations by its logarithm, so that a single
    odd row takes no step for itself; densities and samples are in the data's units. A decoder
    whose outputs are in [0, 1] or [-1, 1] has the columns' range in the place of mean and standard
    deviation.
    """

    centre: Tensor
    unit: Tensor
    reach: Tensor

    def make(self, x: Tensor) -> None:
        """Take the columns' units of a table."""
        if is_table(x):
            self.take(*units(x))
            reach = math.inf if is_bounded(x) else REACH
            self.register_buffer("reach", torch.full((), reach, dtype=x.dtype, device=x.device))

    def take(self, centre: Tensor, unit: Tensor) -> None:
        """Keep a shift and a scale with the weights."""
        self.register_buffer("centre", centre)
        self.register_buffer("unit", unit)

    def span(self, x: Tensor, output: str) -> None:
        """Take units in which the columns of an unbounded table fill a net's range."""
        if output in _RANGES and is_table(x) and not is_bounded(x):
            self.take(*span(x, *_RANGES[output]))

    def scaled(self, x: Tensor) -> Tensor:
        """Return data (*batch, *shape) in their units."""
        return (x - self.centre) / self.unit if hasattr(self, "unit") else x

    def drawn_in(self, x: Tensor) -> Tensor:
        """Return scaled data, those of a table beyond five deviations by their logarithm."""
        return squashed(x, self.reach) if hasattr(self, "reach") else x
