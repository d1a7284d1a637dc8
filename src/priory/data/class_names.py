"""Labels: a table from what the user calls a class to its number, and which are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

UNKNOWN = -1
"""The number of a label that is not known."""

MISSING = ("NAType", "NaTType")
"""Names of pandas' marks of a missing value."""


def label_array(values: object) -> NDArray[Any]:
    """Return labels as an array of numbers or strings, unknown ones as NaN or an empty string.

    Args:
        values: an array-like; masked entries, None, NaN and pandas' marks are unknown labels.
    """
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    array: NDArray[Any] = np.ma.asanyarray(values) if np.ma.isMA(values) else np.asarray(values)
    masked = np.ma.getmaskarray(array) if np.ma.isMA(array) else np.zeros(array.shape, bool)
    array = np.asarray(array)
    if array.dtype.kind == "O":
        masked = masked | np.array([is_missing(v) for v in array.flat], bool).reshape(array.shape)
        array = _plain(array, masked)
    if not masked.any():
        return array
    if array.dtype.kind in "US":
        return np.where(masked, array.dtype.type(""), array)
    return np.where(masked, np.nan, array.astype(np.float64))


def is_missing(value: object) -> bool:
    """Return whether a cell is None, NaN or one of pandas' marks."""
    number = isinstance(value, float | np.floating)
    return value is None or type(value).__name__ in MISSING or (number and value != value)


def _plain(array: NDArray[Any], masked: NDArray[np.bool_]) -> NDArray[Any]:
    """Return an array of objects as strings, or as numbers; as it is if it holds neither."""
    known = array[~masked]
    if not len(known) or all(isinstance(v, bool | np.bool_) for v in known):
        return np.where(masked, "", array.astype(str))
    if all(isinstance(value, str) for value in known):
        return np.where(masked, "", array).astype(np.str_)
    if all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in known):
        return np.where(masked, np.nan, array).astype(np.float64)
    return array


def encode(
    values: NDArray[Any], seen: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give the classes numbers from 0 in sorted order, and their names.

    Labels 1, 2, 3, or with gaps, are numbered like strings: the names hold what they were.

    Args:
        values: labels of shape (rows,).
        seen: whose labels count, (rows,); what stands in the others has no effect.

    Returns:
        The numbers, -1 for unknown labels (-1, NaN, an empty string), and the classes' names.

    Raises:
        ValueError: if the labels have a wrong rank, are fractions, or none is known.
    """
    values = _flat(values)
    known = _known(values) if seen is None else _known(values) & seen
    found = values[known]
    if not len(found):
        raise ValueError("labels 'y' are all unknown (-1, NaN or empty); leave y out")
    _check_whole(values, known)
    texts, inverse = np.unique(found, return_inverse=True)
    _check_marks(values if seen is None else values[seen], texts)
    numbers = np.full(len(values), UNKNOWN, np.int64)
    numbers[known] = inverse
    return numbers, tuple(_text(value) for value in texts)


def numbered(values: NDArray[Any], classes: Sequence[str], drop: bool = False) -> NDArray[np.int64]:
    """Give labels their numbers in the table of the training rows.

    Integers that the table does not name are numbers of classes where it holds strings.

    Args:
        values: labels of shape (rows,).
        classes: names of the classes 0, 1, ...
        drop: whether a class that the table lacks becomes unknown.

    Raises:
        ValueError: if there is a class that the table lacks, or the labels are none.
    """
    values = _flat(values)
    known = _known(values)
    numbers = np.full(len(values), UNKNOWN, np.int64)
    if not known.any():
        return numbers
    _check_whole(values, known)
    found, inverse = np.unique(values[known], return_inverse=True)
    table = {name: number for number, name in enumerate(classes)}
    if not any(_is_whole(name) for name in classes):
        table = {str(number): number for number in range(len(classes))} | table
    texts = [_text(value) for value in found]
    lacking = [text for text in texts if text not in table]
    if lacking and not drop:
        raise ValueError(
            f"labels 'y' have {_listed(lacking)}, and the training rows the classes "
            f"{_listed(classes) or 'none'}; leave such rows out, or the labels if they don't matter"
        )
    numbers[known] = np.array([table.get(text, UNKNOWN) for text in texts], np.int64)[inverse]
    return numbers


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"labels 'y' must have shape (rows,), got {values.shape}")
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    return values


def _known(values: NDArray[Any]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_]
    if values.dtype.kind == "U":
        known = np.char.strip(values) != ""
    elif values.dtype.kind == "f":
        known = ~np.isnan(values) & (values != UNKNOWN)
    else:
        known = values != UNKNOWN if values.dtype.kind == "i" else np.ones(len(values), bool)
    return known


def _check_whole(values: NDArray[Any], known: NDArray[np.bool_]) -> None:
    if values.dtype.kind != "f":
        return
    wrong = known & ~(values == np.floor(values)) | (known & np.isinf(values))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"labels 'y' must be integers or strings, got {values[row]} in row "
            f"{row}; pass a continuous target as a column of another name"
        )


def _check_marks(values: NDArray[Any], found: NDArray[Any]) -> None:
    """Raise a ValueError where -1 may be meant for a class."""
    if values.dtype.kind not in "if" or not (values == UNKNOWN).any():
        return
    if found.min() < 0 or found.tolist() == [1]:
        raise ValueError(
            f"labels 'y' hold -1, which marks an unknown label, beside {found.min():.0f}: "
            "number the classes from 0, or name them by strings"
        )


def _text(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, np.floating) else str(value)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 12 else (*names[:10], "..."))


def number_of(label: Any, classes: Sequence[str]) -> int | None:
    """Return the number of one class by what the user calls it; None if there is no such class.

    Args:
        label: a name; or an integer, which is the class's name where the table holds such.
        classes: names of the classes 0, 1, ...
    """
    table = list(classes)
    if str(label) in table:
        return table.index(str(label))
    words = not any(_is_whole(name) for name in table)
    whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
    return int(label) if words and whole and 0 <= label < len(table) else None


def called_by_number(classes: Sequence[str]) -> bool:
    """Return whether classes are called by integers that are not their own, 1 to 3 or 0, 5, 7."""
    own = [str(number) for number in range(len(classes))]
    return bool(classes) and list(classes) != own and all(_is_whole(name) for name in classes)
