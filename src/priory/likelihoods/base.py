"""What every likelihood is: a head that turns a decoder's features into p(x | .)."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.likelihoods.values import REACH, is_bounded, is_table, span, squashed, units
from priory.part import Part, Shape


def extent(x: Tensor) -> str:
    """Return the range of values, for a message."""
    return f"[{x.min().item():.4g}, {x.max().item():.4g}]"


def word_or_positive(name: str, value: str | float, words: Sequence[str]) -> str | float:
    """Return a head's option that is one of some words, or a positive number.

    Args:
        name: The option's name, for the message.
        value: What was given.
        words: Those that it may be.

    Raises:
        ValueError: It is neither.
    """
    fixed = isinstance(value, (int, float)) and 0 < value < math.inf
    if value not in words and not fixed:
        choice = ", ".join(map(repr, words))
        raise ValueError(f"{name} must be {choice} or a positive number, got {value}")
    return value


def first_outside(x: Tensor, inside: Tensor) -> str:
    """Return the first value of data that is outside of a support and where it stands.

    Args:
        x: Data, (n, *shape).
        inside: Which values are in the support, likewise.
    """
    row, *place = (int(i) for i in (~inside).nonzero()[0])
    where = f" of column {place[0]}" if len(place) == 1 else f" at {tuple(place)}" if place else ""
    return f"{x[(row, *place)].item():.6g} in row {row}{where}"


class Likelihood(Part):
    """A head over features of shape (*batch, params, *shape), with one map for each parameter."""

    name: ClassVar[str]
    _kind = "likelihood"
    params: int = 1

    def meet(self, names: Sequence[str], levels: Sequence[Sequence[str]]) -> None:
        """Learn what a table's columns are called, before the head is built.

        Args:
            names: Of the columns; none where they have no names.
            levels: Of each column the names of its levels, none of a column of numbers; empty where
                all are numbers.

        Raises:
            ValueError: A column has levels, and the likelihood is one of numbers.
        """
        for name, own in zip(names, levels, strict=bool(levels)):
            if own:
                raise ValueError(
                    f"the {self.name} likelihood is of numbers, and column {name!r} has the levels "
                    f"{', '.join(own[:5])}: take likelihood='columns', or leave the column out"
                )

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

    def blank(self, x: Tensor) -> Tensor:
        """Return rows like zeros (n, *shape) that lie in the support."""
        return x

    def inputs(self, shape: Shape) -> Shape:
        """Return the shape of what nets read of a datum; that of a datum, but for categories."""
        return shape

    def beside(self, mask: Tensor) -> Tensor:
        """Return a mask of the entries of data as one of what nets read of them."""
        return mask

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


_LOG_SCALES = (-25.0, 40.0)
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


class Scaled(Real):
    """A head of real numbers about a centre, with a scale in the data's units.

    Args:
        scale: "learned" for one scalar learned with the decoder, "pixel" for one from the decoder
            at every pixel, or a fixed scale in the data's units.

    Raises:
        ValueError: The scale is neither of the words nor a positive number.
    """

    def __init__(self, scale: str | float = "learned") -> None:
        super().__init__()
        self.scale = word_or_positive("scale", scale, ("learned", "pixel"))
        self.params = 2 if scale == "pixel" else 1

    def make(self, x: Tensor) -> None:
        """Take the data's units, and make the log scale: learned from their spread, or fixed."""
        super().make(x)
        if not is_table(x):
            self.take(*units(x))
        if self.scale == "learned":
            self.log_scale = nn.Parameter(self._spread(x))
        elif self.scale != "pixel":
            fixed = torch.tensor(math.log(float(self.scale)), dtype=x.dtype, device=x.device)
            self.register_buffer("log_scale", fixed, persistent=False)

    def span(self, x: Tensor, output: str) -> None:
        """Take the units of a net's range, and the scale's start in them."""
        super().span(x, output)
        if self.scale == "learned":
            with torch.no_grad():
                self.log_scale.copy_(self._spread(x))

    def _spread(self, x: Tensor) -> Tensor:
        """Return the log standard deviation of data in their units."""
        return self.scaled(x).std(correction=0).clamp(min=1e-2).log().detach().clone()

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is finite."""
        if not torch.isfinite(x).all():
            raise ValueError(
                f"the {self.name} likelihood expected finite values, got nan or infinity"
            )

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and, for the scale's map, the log standard deviation."""
        x = self.scaled(x)
        mean = x.mean(0)
        if self.scale != "pixel":
            return mean.unsqueeze(0)
        spread = x.std(0, correction=0).clamp(min=1e-2)
        return torch.stack([mean, spread.log()])

    def located(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return centres and log scales in the data's units, of maps (means,) or with log scales.

        The log scale is kept in [-25, 40] units, beyond which single precision has no use for it.
        """
        log_scale = maps[1] if self.scale == "pixel" else self.log_scale
        if isinstance(self.scale, str):
            log_scale = log_scale.clamp(*_LOG_SCALES) + self.unit.log()
        return self.centre + self.unit * maps[0], log_scale
