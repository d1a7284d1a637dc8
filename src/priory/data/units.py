"""The units of a table: its mean and standard deviation, taken and undone in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LOST = 1e-4  # of a feature's sd: what the cast to float32 may take off its values


def standards(x: NDArray[Any], divisor: float = 1.0) -> tuple[Floats, Floats]:
    """Return each feature's mean and sd, in float64; 1 for the sd of a constant feature.

    Args:
        x: training rows of shape (rows, *shape).
        divisor: what the values are divided by first.
    """
    values = x.astype(np.float64) / divisor
    constant = (values == values[:1]).all(0)
    mean = np.where(constant, values[0], values.mean(0))
    sd = np.where(constant, 1.0, values.std(0))
    return mean, np.where(sd > 0, sd, 1.0)


def centres(x: Any) -> Floats | None:
    """Return what a table's features are centred by, so that the cast keeps their differences.

    A feature whose values lie so far from zero that torch's default dtype would take more than
    1e-4 of their sd off them (times in seconds, coordinates in metres) is centred by its mean,
    integers by a whole one; others by 0. `None` if there is no such feature.

    Args:
        x: training rows of shape (rows, *shape).
    """
    eps = torch.finfo(torch.get_default_dtype()).eps
    wide = isinstance(x, np.ndarray) and x.dtype.kind in "iuf" and x.dtype.itemsize >= 4
    if not wide or x.dtype == np.float32:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        values = x.astype(np.float64)
        sd, most = values.std(0), np.abs(values).max(0)
        varies = (values != values[:1]).any(0) & (sd > 4 * np.finfo(np.float64).eps * most)
        far = varies & (most * eps > _LOST * sd)
    if not far.any():
        return None
    mean = values.mean(0)
    return np.where(far, np.round(mean) if x.dtype.kind in "iu" else mean, 0.0)


def in_units(x: NDArray[Any], divisor: float, mean: Floats, scale: Floats) -> Floats:
    """Return rows in the units of the training rows, in float64.

    Args:
        x: rows of shape (rows, *shape).
        divisor: what they are divided by first.
        mean: of each feature.
        scale: of each feature.

    Raises:
        ValueError: if a value is too large for them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found: Floats = (x.astype(np.float64) / divisor - mean) / scale
    most = torch.finfo(torch.get_default_dtype()).max
    if not (np.abs(found) <= most).all():
        raise ValueError("x is too large for its mean and sd; scale it first")
    return found


def is_far(mean: Floats, scale: Floats) -> bool:
    """Return whether torch's default dtype takes too much off values of this mean and scale."""
    eps = torch.finfo(torch.get_default_dtype()).eps
    return bool((np.abs(mean) * eps > _LOST * scale).any())
