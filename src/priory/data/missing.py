"""Missing entries: a column that says which are seen, and what stands in the place of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from priory.data.class_names import is_missing
from priory.data.columns import Arrays, Table, features_of, levels_of
from priory.data.partition import PARTS

SEEN = "seen"
"""The column that says which entries of x are seen, of the shape of x."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def apart(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns whose x has 0 for each entry that is NaN, with a mask beside it.

    Args:
        columns: `x`, and where given `x_valid`, `x_test` and others.

    Raises:
        ValueError: x holds no real numbers, or a column has the mask's name.
    """
    check_name(columns)
    found = {name: value for name, value in columns.items() if value is not None}
    for end in ("", *(f"_{part}" for part in PARTS)):
        if f"x{end}" in found:
            found[f"x{end}"], found[f"{SEEN}{end}"] = holes(found[f"x{end}"])
    return Table(found, features_of(columns), levels_of(columns))


def check_name(columns: Mapping[str, Any]) -> None:
    """Raise a ValueError if a column has the name of the mask.

    Args:
        columns: by name, as the user gives them.
    """
    taken = [n for n in columns if n.removesuffix("_valid").removesuffix("_test") == SEEN]
    if taken and columns[taken[0]] is not None:
        raise ValueError(
            f"the name {SEEN!r} is that of the mask which missing='integrate' makes of the entries "
            "that are NaN; call your column by another name"
        )


def holes(x: Any) -> tuple[NDArray[Any], Mask]:
    """Return rows with 0 for each entry that is NaN, masked or None, and which are seen.

    Args:
        x: an array-like, (rows, *shape); the result is float, (rows, 1) of shape (rows,).

    Raises:
        ValueError: it holds pixels of dtype uint8, or no numbers.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    gone = np.ma.getmaskarray(array) if np.ma.isMA(array) else None
    array = np.asarray(array)
    if array.dtype.kind == "O":
        gone = np.array([is_missing(cell) for cell in array.flat], bool).reshape(array.shape)
    if array.dtype == np.uint8 or array.dtype.kind not in "iufO" or array.ndim == 0:
        raise ValueError(
            f"missing='integrate' is for rows of real numbers, got {array.dtype} of shape "
            f"{array.shape}; convert them, or leave the option out"
        )
    if gone is not None:
        array = np.where(gone, np.nan, array)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    seen = ~np.isnan(array)
    return np.where(seen, array, array.dtype.type(0)), seen


def filled(parts: Mapping[str, Arrays]) -> tuple[dict[str, Arrays], Floats]:
    """Fill the missing entries by a value that the feature has, the one nearest to its mean.

    Such a value lies in the support of any likelihood of the feature. Nothing reads it.

    Args:
        parts: columns of each part, with a mask.

    Returns:
        The columns, and the values, of the shape of one datum.

    Raises:
        ValueError: A feature is not seen in any training row.
    """
    x, seen = parts["train"]["x"].astype(np.float64), parts["train"][SEEN]
    if (empty := np.argwhere(~seen.any(0))).size:
        place = tuple(int(i) for i in empty[0])
        raise ValueError(f"the feature at position {place} is missing in all training rows")
    gap = np.where(seen, np.abs(x - moments(x, seen)[0]), np.inf)
    fill: Floats = np.take_along_axis(x, gap.argmin(0)[None], 0)[0]
    made = {}
    for part, own in parts.items():
        made[part] = {**own, "x": np.where(own[SEEN], own["x"], fill.astype(own["x"].dtype))}
    return made, fill


def moments(x: Floats, seen: Mask) -> tuple[Floats, Floats]:
    """Return each feature's mean and sd over the rows in which it is seen; 1 for an sd of 0.

    Args:
        x: rows, (rows, *shape), finite.
        seen: which entries count.
    """
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, x, 0).sum(0) / count
    sd = np.sqrt(np.where(seen, (x - mean) ** 2, 0).sum(0) / count)
    return mean, np.where(sd > 0, sd, 1.0)


def share_missing(seen: Mapping[str, Mask]) -> str:
    """Say how many entries are missing.

    Args:
        seen: masks, by part.
    """
    every = np.concatenate([mask.reshape(-1) for mask in seen.values()])
    return f"{1 - every.mean():.1%} of its entries missing"
