"""What the values of data are: binary, and of which size."""

import torch
from torch import Tensor

_CONSTANT = 1e-6  # of its mean, what a column's standard deviation must exceed


def is_binary(x: Tensor) -> bool:
    """Say whether all values are 0 or 1."""
    return bool(((x == 0) | (x == 1)).all())


def units(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b such that (x - a) / b is of the order of one.

    Args:
        x: Training data, (n, *shape).

    Returns:
        Each (d,) for vectors, () for anything else: means and standard deviations, where one of
        them is beyond [-1, 1], else 0 and 1. What doesn't vary keeps the unit 1.
    """
    columns = x if x.dim() == 2 else x.reshape(-1, 1)
    mean, spread = columns.mean(0), columns.std(0, correction=0)
    off = (mean.abs() > 1) | (spread > 1)
    centre = torch.where(off, mean, 0.0)
    varies = spread > _CONSTANT * mean.abs()
    unit = torch.where(off & varies, spread, 1.0)
    return (centre, unit) if x.dim() == 2 else (centre[0], unit[0])
