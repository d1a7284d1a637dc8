"""Data at evenly spaced levels, by a normal density gathered over their bins."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.pixels import IndependentDiscretizedNormal
from priory.likelihoods.base import Likelihood, extent

_MOST = 256  # levels that are looked for
_OFF = 1e-3  # of a level's distance, which a value may be off
_ROWS = 2**20  # numbers among which levels are looked for


class DiscretizedNormal(Likelihood):
    """Independent pixels at evenly spaced levels of [0, 1]; maps of centres and of log scales.

    The maps are in units in which the levels run from -1 to 1, as nets see the data too. Ho, Jain
    and Abbeel, 2020, Denoising diffusion probabilistic models.

    Args:
        levels: How many levels there are: 256 for eight-bit greys divided by 255; None takes as few
            as hold the training data, which it then holds.

    Raises:
        ValueError: There are fewer than two levels; when it is built, if the data lie on no 256 or
            fewer.

    Example:
        >>> head = DiscretizedNormal()
        >>> head.build(torch.arange(17.0).unsqueeze(1) / 16)
        >>> head.levels
        17
    """

    name = "discretized-normal"
    params = 2

    def __init__(self, levels: int | None = None) -> None:
        super().__init__()
        if levels is not None and levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.levels = levels

    def make(self, x: Tensor) -> None:
        """Find how many levels there are."""
        if self.levels is None:
            self.levels = levels_of(x)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is one of the levels."""
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(
                "the discretised normal likelihood expected levels of [0, 1], got values in "
                f"{extent(x)}: divide the data by their largest possible value, or use "
                "likelihood='normal'"
            )
        levels = levels_of(x) if self.levels is None else self.levels
        if levels is None or not _lies(x, levels):
            held = f"{_MOST} or fewer" if levels is None else f"{levels}"
            raise ValueError(
                f"the discretised normal likelihood expected values at {held} evenly spaced levels "
                f"of [0, 1], got values between those in {extent(x)}: round them, set levels, or "
                "use likelihood='normal'"
            )

    def scaled(self, x: Tensor) -> Tensor:
        """Return data (*batch, *shape) from -1 to 1."""
        return 2 * x - 1

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and log standard deviation."""
        assert self.levels is not None  # noqa: S101
        x = self.scaled(x)
        spread = x.std(0, correction=0).clamp(min=1 / (self.levels - 1))
        return torch.stack([x.mean(0), spread.log()])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (centres, log scales)."""
        loc, log_scale = (maps[0] + 1) / 2, maps[1] - math.log(2)
        return IndependentDiscretizedNormal(loc, log_scale, self.levels or 2, event_dim)


def levels_of(x: Tensor) -> int | None:
    """Return the least number of evenly spaced levels of [0, 1] that data lie on.

    Args:
        x: Data, (n, *shape).

    Returns:
        At least 2 and at most 256; None where the data lie on no such levels.
    """
    if not len(x) or not ((x >= 0) & (x <= 1)).all():
        return None
    index = torch.linspace(0, len(x) - 1, min(len(x), max(1, _ROWS // max(1, x[0].numel()))))
    values = x[index.round().long().to(x.device)].unique()
    if len(values) > _MOST:
        return None
    fitting = (n for n in range(2, _MOST + 1) if _lies(values, n) and _lies(x, n))
    return next(fitting, None)


def _lies(x: Tensor, levels: int) -> bool:
    """Return whether every value is one of so many levels."""
    at = x * (levels - 1)
    return bool(((at - at.round()).abs() <= _OFF).all())
