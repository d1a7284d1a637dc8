"""Sequences of different lengths: rows of a table put together, and padded to as many steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from priory.data.class_names import is_missing
from priory.data.columns import Arrays, Table
from priory.data.mapped import memory

LENGTH = "length"
"""The column of the sequences' numbers of steps."""


def keys_of(name: str, column: NDArray[Any]) -> list[Any]:
    """Return which sequence each row belongs to.

    Args:
        name: Of the column.
        column: Its cells, (rows,): text, numbers or times.

    Raises:
        ValueError: A cell is empty.
    """
    keys = [key.strip() if isinstance(key, str) else key for key in column.tolist()]
    if not all(isinstance(key, Hashable) for key in keys):
        raise ValueError(f"the column of sequences {name!r} holds no text, numbers or times")
    times = column.dtype.kind in "mM"
    gone = np.isnat(column).tolist() if times else [k == "" or is_missing(k) for k in keys]
    if any(gone):
        raise ValueError(
            f"the column of sequences {name!r} is empty in row {gone.index(True)}; every row is a "
            "step of a sequence: fill or drop such rows"
        )
    return keys


def sequences(
    x: NDArray[np.float64], keys: Sequence[Any], labels: Mapping[str, NDArray[Any]]
) -> Arrays:
    """Return one row for each sequence, in the order of their first steps.

    Args:
        x: The steps, (rows, columns), in the order of time within each sequence.
        keys: Which sequence each row belongs to, (rows,); its rows need not be adjacent.
        labels: The column of labels, (rows,), by its name, if there is one.

    Returns:
        `x` (sequences, steps) where the only column holds integers from 0, else (sequences, steps,
        columns), padded with 0; `length`; and `y` where there are labels.

    Raises:
        ValueError: A label changes within a sequence, or memory has no room for the padding.
    """
    numbers: dict[Any, int] = {}
    which = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    order = np.argsort(which, kind="stable")
    length = np.bincount(which)
    starts = np.cumsum(length) - length
    place = np.empty(len(which), dtype=np.int64)
    place[order] = np.arange(len(which)) - np.repeat(starts, length)
    _check_room(length, x, list(numbers))
    padded = np.zeros((len(length), length.max(), x.shape[1]))
    padded[which, place] = x
    symbols = x.shape[1] == 1 and bool(((x >= 0) & (x == np.floor(x))).all())
    found: Arrays = {"x": padded[..., 0] if symbols else padded, LENGTH: length}
    for name, y in labels.items():
        first = order[starts]
        _check_constant(name, y, first[which], keys)
        found["y"] = y[first]
    return found


def _check_room(length: NDArray[np.int64], x: NDArray[np.float64], names: list[Any]) -> None:
    most = int(length.max())
    taken = len(length) * most * x.shape[1] * x.itemsize
    if 0 < memory() / 4 < taken:
        raise ValueError(
            f"{len(length):,} sequences padded to the {most:,} steps of {names[length.argmax()]!r} "
            f"take {taken / 1e9:,.1f} GB of {memory() / 1e9:,.1f} GB; cut the longest ones"
        )


def _check_constant(
    name: str, y: NDArray[Any], first: NDArray[np.int64], keys: Sequence[Any]
) -> None:
    """Raise a ValueError if a label is another than that of its sequence's first row."""
    alike = y == y[first]
    if y.dtype.kind == "f":
        alike |= np.isnan(y) & np.isnan(y[first])
    if not alike.all():
        row = int(np.argmin(alike))
        shown = [str(y[i]).removesuffix(".0") or "none" for i in (first[row], row)]
        raise ValueError(
            f"the label {name!r} changes within sequence {keys[row]!r}: {shown[0]} in row "
            f"{first[row]}, {shown[1]} in row {row}; a label is one of the whole sequence, and a "
            "value of each step needs another name"
        )


def joined(tables: Mapping[str, Table]) -> Table:
    """Return the columns of several tables of sequences under one name each, of one shape.

    Args:
        tables: As `sequences` has them, by what ends their columns' names; the first is "".

    Raises:
        ValueError: Their features differ.
    """
    features = tables[""].features
    found: Arrays = {}
    arrays = [table["x"] for table in tables.values()]
    symbols = all(x.ndim == 2 for x in arrays)
    steps = max(x.shape[1] for x in arrays)
    for end, table in tables.items():
        if {*table.features} != {*features}:
            raise ValueError(
                f"x{end} has the columns {', '.join(table.features)}, and x {', '.join(features)}"
            )
        x = table["x"] if symbols or table["x"].ndim == 3 else table["x"][..., None]
        if not symbols and features:
            x = x[..., [table.features.index(name) for name in features]]
        wide = np.zeros((len(x), steps, *x.shape[2:]))
        wide[:, : x.shape[1]] = x
        found |= {f"{name}{end}": wide if name == "x" else c for name, c in table.items()}
    return Table(found, features)


def is_padded(parts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether all parts have a column `length` that counts steps, the first axis of `x`.

    Args:
        parts: Columns by name; a part may be empty.
    """
    for columns in parts.values():
        length, x = columns.get(LENGTH), columns["x"]
        if length is None or length.ndim != 1 or length.dtype.kind not in "iu" or len(x.shape) < 2:
            return False
        if len(x.shape) > 2 and getattr(x, "array", x).dtype in (np.uint8, np.bool_):  # pixels
            return False
        if len(length) and not 1 <= length.min() <= length.max() <= x.shape[1]:
            return False
    return True


def finite_behind(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return columns whose sequences have finite values behind their ends: 0 where they had none.

    Args:
        columns: By name, of one part or of several; what is no padded array is left as it is.
    """
    found = dict(columns)
    for end in ("", "_valid", "_test"):
        x, length = columns.get(f"x{end}"), columns.get(f"{LENGTH}{end}")
        x = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
        if not isinstance(x, np.ndarray) or isinstance(x, np.memmap) or x.dtype.kind != "f":
            continue
        length = None if length is None else np.asarray(length)
        if length is None or length.shape != x.shape[:1] or length.dtype.kind not in "iu":
            continue
        if x.ndim > 1 and is_padded({end: {"x": x, LENGTH: length}}) and not np.isfinite(x).all():
            behind = ~counted(length, x.shape[1]).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
            found[f"x{end}"] = np.where(behind & ~np.isfinite(x), x.dtype.type(0), x)
    return (
        found if not isinstance(columns, Table) else Table(found, columns.features, columns.levels)
    )


def counted(length: Any, steps: int) -> NDArray[np.bool_]:
    """Return which steps count, (rows, steps).

    Args:
        length: Steps of each row, (rows,).
        steps: Of the padded rows.
    """
    found: NDArray[np.bool_] = np.arange(steps) < np.asarray(length)[:, None]
    return found


def blank(x: NDArray[Any], length: Any) -> NDArray[Any]:
    """Return sequences (rows, steps, ...) with 0 behind their ends.

    Args:
        x: Padded sequences.
        length: Their steps, (rows,).
    """
    return np.where(counted(length, x.shape[1]).reshape(*x.shape[:2], *[1] * (x.ndim - 2)), x, 0)


def with_steps(x: NDArray[Any], length: Any, steps: int) -> NDArray[Any]:
    """Return sequences padded with 0, or cut behind all their ends, to a number of steps.

    Args:
        x: Padded sequences, (rows, other steps, ...).
        length: Their steps, (rows,).
        steps: The number wanted.

    Raises:
        ValueError: A sequence is longer, or its length counts no steps.
    """
    length = np.asarray(length)
    if x.ndim < 2 or x.shape[1] == steps:
        return x
    if length.min() < 1 or length.max() > x.shape[1]:
        raise ValueError(
            f"a sequence's length counts its steps, from 1 to {x.shape[1]}, got {length.min()} to "
            f"{length.max()}: mend the column 'length', or pad the sequences further"
        )
    if length.max() > steps:
        raise ValueError(
            f"a sequence has {length.max()} steps, and the longest one of the training data "
            f"{steps}, for which the pair is built; cut it, or train on data that hold one as long"
        )
    found = np.zeros((len(x), steps, *x.shape[2:]), x.dtype)
    kept = min(steps, x.shape[1])
    found[:, :kept] = x[:, :kept]
    return found
