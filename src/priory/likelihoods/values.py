"""What the values of data are: binary, bounded, and of which size."""

import torch
from torch import Tensor

SMALL = 0.1  # of the weights that a table's last layers are drawn with
_FLAT = 64  # columns from which bounded data are taken for images laid flat
_CONSTANT = 8.0  # roundings of its mean that a column's standard deviation must exceed
REACH = 5.0  # standard deviations up to which a net reads a table's values as they are


def is_binary(x: Tensor) -> bool:
    """Say whether all values are 0 or 1."""
    return bool(((x == 0) | (x == 1)).all())


def is_table(x: Tensor) -> bool:
    """Say whether data, (n, *shape), are rows of columns."""
    return x.dim() <= 2


def is_bounded(x: Tensor) -> bool:
    """Say whether data are scaled to an interval: within [0, 1], or from -1 to 1 exactly."""
    low, high = float(x.min()), float(x.max())
    return (low >= 0 and high <= 1) or (low == -1 and high == 1)


def units(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b such that (x - a) / b is of the order of one.

    Args:
        x: Training data, (n, *shape).

    Returns:
        For a table each (*shape): the columns' means and standard deviations; 0 and 1 for bounded
        data. For anything else each (): mean and standard deviation, where one of them is beyond
        [-1, 1], else 0 and 1. What doesn't vary keeps the unit 1.
    """
    columns = x.reshape(len(x), -1) if is_table(x) else x.reshape(-1, 1)
    wide = columns.double()  # the squares of large values would overflow
    mean, spread = wide.mean(0), wide.std(0, correction=0)
    if is_table(x):
        off = torch.full_like(mean, not is_bounded(x), dtype=torch.bool)
    else:
        off = (mean.abs() > 1) | (spread > 1)
    centre = torch.where(off, mean, 0.0)
    varies = spread > _CONSTANT * torch.finfo(x.dtype).eps * mean.abs()
    unit = torch.where(off & varies, spread, 1.0)
    shape = x.shape[1:] if is_table(x) else ()
    return centre.to(x.dtype).reshape(shape), unit.to(x.dtype).reshape(shape)


def span(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return a and b such that (x - a) / b runs from `low` to `high` in every column.

    Args:
        x: A table, (n, *shape).
        low: Smallest value.
        high: Largest value.
    """
    least, most = x.amin(0).double(), x.amax(0).double()
    unit = torch.where(most > least, (most - least) / (high - low), 1.0)
    return (least - low * unit).to(x.dtype), unit.to(x.dtype)


def squashed(x: Tensor, reach: Tensor) -> Tensor:
    r"""Return values as they are up to `reach`, and beyond growing with their logarithm.

    .. math:: f(x) = \mathrm{sign}(x) (r + \log(1 + |x| - r)), \quad |x| > r

    Its derivative is continuous, and 1 / (1 + |x| - r) there.
    """
    inner = x.clamp(-reach, reach)
    rest = x - inner
    return inner + rest.sign() * rest.abs().log1p()


def starts_small(x: Tensor) -> bool:
    """Say whether data are a table; many bounded columns are images laid flat, which are none.

    Args:
        x: Training data, (n, *shape).
    """
    return is_table(x) and not (is_bounded(x) and x[0].numel() >= _FLAT)
