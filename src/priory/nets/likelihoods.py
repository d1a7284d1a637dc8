"""Likelihood heads: what turns a decoder's features into a distribution over a datum."""

import math
from abc import abstractmethod

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.nets.base import Part, Shape
from priory.nets.distributions import IndependentNormal
from priory.nets.pixels import (
    IndependentBernoulli,
    IndependentContinuousBernoulli,
    IndependentLogistic,
    continuous_bernoulli_mean,
)
from priory.nets.values import REACH, is_binary, is_bounded, is_table, span, squashed, units


def _range(x: Tensor) -> str:
    return f"[{x.min().item():.4g}, {x.max().item():.4g}]"


class Likelihood(Part):
    """A head over features of shape (*batch, params, *shape), with one map for each parameter."""

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


class Bernoulli(Likelihood):
    """Independent binary pixels; one map of log-odds.

    Example:
        >>> head = Bernoulli()
        >>> head.build(torch.zeros(10, 4))
        >>> head(torch.zeros(5, 1, 4)).event_shape
        torch.Size([4])
    """

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is 0 or 1."""
        if is_binary(x):
            return
        if x.min() >= 0 and x.max() <= 1:
            mend = "binarise the data, or use likelihood='continuous-bernoulli'"
        else:
            mend = (
                "scale the data to [0, 1] and binarise them, or use likelihood="
                "'continuous-bernoulli' once scaled, or likelihood='normal' as they are"
            )
        raise ValueError(
            f"the Bernoulli likelihood expected values 0 and 1, got values in {_range(x)}: {mend}"
        )

    def bias(self, x: Tensor) -> Tensor:
        """Return the log-odds of the training mean, kept in [0.001, 0.999]."""
        return torch.logit(x.mean(0).clamp(0.001, 0.999)).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (logits,)."""
        return IndependentBernoulli(maps[0], event_dim)


class ContinuousBernoulli(Likelihood):
    """Independent grey pixels in [0, 1]; one map of natural parameters.

    Loaiza-Ganem and Cunningham, 2019, The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders.
    """

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is in [0, 1]."""
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(
                "the continuous Bernoulli likelihood expected values in [0, 1], got values in "
                f"{_range(x)}: scale the data to [0, 1], or use likelihood='normal'"
            )

    def bias(self, x: Tensor) -> Tensor:
        """Return the parameter whose mean is the training mean, by bisection."""
        mean = x.mean(0).clamp(0.001, 0.999)
        low, high = torch.full_like(mean, -1000.0), torch.full_like(mean, 1000.0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = continuous_bernoulli_mean(middle) > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (0.5 * (low + high)).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (logits,)."""
        return IndependentContinuousBernoulli(maps[0], event_dim)


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


class Normal(Real):
    r"""Independent normal pixels; a map of means and, with scale "pixel", one of log scales.

    .. math:: x_i \sim N(a_i + b_i m_i, (b_i s_i)^2)

    A table's a_i and b_i are those of its columns; an image has one a and b, which are 0 and 1
    where its mean and standard deviation are within [-1, 1]. Densities are in the data's units.
    log s_i is kept in [-25, 40], beyond which single precision has no use for it.

    Args:
        scale: "learned" for one scalar s learned with the decoder, "pixel" for one from the decoder
            at every pixel, or a fixed standard deviation in the data's units.

    Raises:
        ValueError: The scale is neither of the words nor a positive number.
    """

    def __init__(self, scale: str | float = "learned") -> None:
        super().__init__()
        fixed = isinstance(scale, (int, float)) and 0 < scale < math.inf
        if scale not in ("learned", "pixel") and not fixed:
            raise ValueError(f"scale must be 'learned', 'pixel' or a positive number, got {scale}")
        self.scale = scale
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
            raise ValueError("the normal likelihood expected finite values, got nan or infinity")

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and, for the scale's map, the log standard deviation."""
        x = self.scaled(x)
        mean = x.mean(0)
        if self.scale != "pixel":
            return mean.unsqueeze(0)
        spread = x.std(0, correction=0).clamp(min=1e-2)
        return torch.stack([mean, spread.log()])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (means,) or (means, log scales)."""
        log_scale = maps[1] if self.scale == "pixel" else self.log_scale
        if isinstance(self.scale, str):
            log_scale = log_scale.clamp(*_LOG_SCALES) + self.unit.log()
        return IndependentNormal(self.centre + self.unit * maps[0], log_scale, event_dim)


class DiscretizedLogistic(Likelihood):
    """Independent pixels at evenly spaced levels of [0, 1]; maps of centres and of log scales.

    Salimans, Karpathy, Chen and Kingma, 2017, PixelCNN++.

    Args:
        levels: How many levels there are: 256 for eight-bit greys divided by 255.

    Raises:
        ValueError: There are fewer than two levels.
    """

    params = 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.levels = levels

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is one of the levels."""
        top = self.levels - 1
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(
                f"the discretised logistic likelihood expected values k / {top} in [0, 1], got "
                f"values in {_range(x)}: divide the data by their largest possible value"
            )
        if ((x * top - (x * top).round()).abs() > 1e-3).any():
            raise ValueError(
                f"the discretised logistic likelihood expected values k / {top}, got values "
                f"between those in {_range(x)}: round them, or use "
                "likelihood='continuous-bernoulli'"
            )

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and the log scale of the same standard deviation."""
        spread = x.std(0, correction=0).clamp(min=0.5 / (self.levels - 1))
        return torch.stack([x.mean(0), (spread * math.sqrt(3) / math.pi).log()])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (centres, log scales)."""
        return IndependentLogistic(maps[0], maps[1], self.levels, event_dim)


class Delta(Real):
    r"""The decoder's output itself, in a table's units: an implicit model, without a density.

    .. math:: x_i = a_i + b_i m_i

    An image has a = 0 and b = 1.
    """

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean."""
        return self.scaled(x).mean(0).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the point mass at maps (values,)."""
        value = self.centre + self.unit * maps[0] if hasattr(self, "unit") else maps[0]
        return dist.Delta(value, event_dim=event_dim)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "delta": Delta,
    "logistic": DiscretizedLogistic,
    "normal": Normal,
}


def likelihood_for(x: Tensor) -> Likelihood:
    """Return the likelihood that fits the data: by their values alone, (n, *shape).

    Example:
        >>> likelihood_for(torch.tensor([[0.0, 1.0]]))
        Bernoulli()
    """
    if is_binary(x):
        return Bernoulli()
    if ((x >= 0) & (x <= 1)).all():
        return ContinuousBernoulli()
    return Normal()
