"""Whether data lie on evenly spaced levels, such as the greys of eight bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS, _NUMBERS = 200, 2**20  # looked at in search of levels, at least
_MOST = 2**16  # levels
_ROUNDINGS = 4  # of the largest value
_CHANCE = 1000.0
_PRECISE = (torch.float64, torch.int64, torch.int32)


def level_spacing(x: Tensor) -> float | None:
    """Return the distance of neighbouring levels that data lie on, if they are evenly spaced.

    Any offset and distance will do, and levels may lack: of 0, 1, 4 and 6 it is 1. Roundings to
    single precision are allowed for.

    Args:
        x: data, `(n, *shape)`; about a million numbers are looked at.

    Returns:
        The distance; `None` where the data lie on no such levels, on more than 65,536, or are too
        few to distinguish levels from chance.

    Example:
        >>> level_spacing(torch.tensor([[0.0, 3.0, 16.0]]) / 16)
        0.0625
    """
    rows = max(_ROWS, _NUMBERS // max(1, x[0].numel()))
    index = torch.linspace(0, len(x) - 1, min(len(x), rows), dtype=torch.float64).round().long()
    values = x[index.to(x.device)].double().unique().cpu()
    kinds = (torch.float32,) if x.dtype not in _PRECISE else (torch.float64, torch.float32)
    if x.dtype in (torch.float16, torch.bfloat16):
        kinds = (x.dtype,)
    found = (_spacing(values, _ROUNDINGS * torch.finfo(kind).eps) for kind in kinds)
    return next((spacing for spacing in found if spacing is not None), None)


def _spacing(values: Tensor, rounding: float) -> float | None:
    """Return the greatest distance of which all differences are multiples, but for roundings.

    Euclid's algorithm on the differences of neighbours: the distance of the levels is found from
    all values together at every step, so that its error does not grow with their number.

    Args:
        values: in ascending order.
        rounding: largest error of a value, over the largest of them.
    """
    slack = rounding * float(values.abs().max())
    start = torch.cat([torch.tensor([True]), values.diff() > 2 * slack])  # else the same level
    values = values[start]
    gaps = values.diff()
    if not len(gaps):
        return None
    spacing, span = float(gaps.min()), float(values[-1] - values[0])
    while span <= _MOST * spacing and spacing > 4 * slack:
        steps = (gaps / spacing).round()
        levels = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        fitted = float(((values - values.mean()) * levels).sum())
        fitted /= float(((levels - levels.mean()) * levels).sum())
        rest = (values - values.mean() - fitted * (levels - levels.mean())).abs()
        if rest.max() <= 2 * slack:
            whole = round(1 / fitted)  # 1/255, say, freed of roundings
            fitted = 1 / whole if whole and abs(whole * fitted - 1) < rounding else fitted
            return fitted if _is_no_chance(len(values), span / fitted, fitted, slack) else None
        remainders = (gaps - spacing * steps).abs()
        spacing = min((r for r in remainders.tolist() if r > 4 * slack), default=0.0)
    return None


def _is_no_chance(count: int, levels: float, spacing: float, slack: float) -> bool:
    """Return whether so many values would hardly lie on levels by chance."""
    if count == round(levels) + 1:  # every level is there
        return True
    each = min(1.0, 4 * slack / spacing) or 1e-16
    return (count - 2) * -math.log(each) > math.log(_CHANCE * levels)
