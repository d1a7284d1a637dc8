"""Columns: from whatever the user holds to checked arrays."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.categories import Levels
from priory.data.class_names import MISSING, label_array

Arrays = dict[str, NDArray[Any]]

_BLOCK = 1 << 25  # bytes


class Table(Arrays):
    """The columns of a table, which knows what the features of its `x` are called.

    Args:
        arrays: by name.
        features: names of the features; none where a table has no header.
        levels: of each feature the names of its levels, none of numbers; empty if all are numbers.
    """

    def __init__(self, arrays: Arrays, features: tuple[str, ...], levels: Levels = ()) -> None:
        super().__init__(arrays)
        self.features, self.levels = features, levels


def is_frame(given: object) -> bool:
    """Return whether something is a data frame, by what it can do."""
    return hasattr(given, "columns") and hasattr(given, "to_numpy")


def features_of(given: Any) -> tuple[str, ...]:
    """Return the names of the features, where the rows or their `x` have any: tables and frames.

    Args:
        given: columns by name, or a data frame.
    """
    if isinstance(given, Table):
        return given.features
    if isinstance(given, Mapping):
        return features_of(given.get("x"))
    names = [*given.columns] if is_frame(given) else []
    numbered = all(isinstance(name, int | np.integer) for name in names)
    return () if numbered else tuple(map(str, names))


def levels_of(given: Any) -> Levels:
    """Return the levels of each feature of columns; empty where all are numbers.

    Args:
        given: columns by name.
    """
    return given.levels if isinstance(given, Table) else ()


def as_array(name: str, values: object) -> NDArray[Any]:
    """Turn an array-like into an array with rows, every value of it finite.

    Args:
        name: name of the column, for the messages.
        values: a tensor, array, data frame or nested sequence with the rows first; of labels,
            unknown ones are NaN or empty in what is returned.

    Raises:
        ValueError: if the values are ragged, of a dtype that isn't understood, without rows, or
            NaN or infinite; the message names the first bad row.
    """
    try:
        values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if is_label(name):
            values = label_array(values)
        array = values if isinstance(values, np.memmap) else np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {name!r} is not an array with equal rows: {error}") from error
    _check_masked(name, values)
    if array.dtype.kind == "O":
        array = _plain(name, array)
    if array.dtype.kind not in "biufUS":
        raise ValueError(
            f"column {name!r} has dtype {array.dtype}; expected numbers (or strings for labels). "
            "Missing values and rows of unequal length make an object array: mend them first"
        )
    if array.ndim == 0:
        raise ValueError(f"column {name!r} is a single value; expected rows first: (rows, ...)")
    if array.size == 0:
        raise ValueError(f"column {name!r} is empty: shape {array.shape}")
    if array.dtype.kind == "f":
        _check_finite(name, np.where(np.isnan(array), 0, array) if is_label(name) else array)
    return array


def is_label(name: str) -> bool:
    """Return whether a column holds labels, of any part."""
    return name in ("y", "y_train", "y_valid", "y_test")


def _check_masked(name: str, values: object) -> None:
    """Raise a ValueError if values of a masked array are masked."""
    if not np.ma.isMA(values):
        return
    mask = np.ma.getmaskarray(values)
    rows = mask.reshape(len(mask), -1).any(1)
    if rows.any():
        raise ValueError(
            f"column {name!r} has {int(mask.sum()):,} masked values, in {int(rows.sum()):,} rows, "
            f"the first of them row {int(rows.argmax())}; fill them, or drop such rows"
        )


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Turn an array of objects into strings or numbers, where all of them are."""
    if all(isinstance(value, str) for value in array.flat):
        return array.astype(np.str_)
    for place, value in np.ndenumerate(array):
        nan = isinstance(value, float) and value != value
        if nan or value is None or type(value).__name__ in MISSING:
            raise ValueError(
                f"column {name!r} has dtype object, with {value!r} in row {place[0]}: a missing "
                "value; drop or fill such rows first"
            )
    kinds = int | float | np.number | np.bool_ | Decimal
    if array.size and all(isinstance(value, kinds) for value in array.flat):
        return array.astype(np.float64)
    return array


def _check_finite(name: str, array: NDArray[Any]) -> None:
    most = torch.finfo(torch.get_default_dtype()).max
    wide = array.dtype.itemsize > torch.get_default_dtype().itemsize
    for start, block in blocks(array):
        good = np.isfinite(block)
        if wide:
            good &= np.abs(block, out=np.zeros_like(block), where=good) <= most
        if good.all():
            continue
        row, *place = (int(i) for i in np.argwhere(~good)[0])
        where = f" at position {tuple(place)}" if place else ""
        value = block[(row, *place)]
        mend = "every value must be finite: drop or fill such rows first"
        if np.isnan(value) and name.partition("_")[0] == "x":
            mend += ", or see missing='integrate'"
        if np.isfinite(value):
            mend = f"{torch.get_default_dtype()} holds values up to {most:.3g}: scale the column"
        raise ValueError(f"column {name!r} has {value} in row {start + row}{where}; {mend}")


def blocks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Iterate over an array in blocks of rows, each with its first row's number.

    Pages of a mapped file are given back after each block, so that memory stays small.
    """
    size = max(1, array.nbytes // max(1, len(array)))
    step = max(1, _BLOCK // size)
    for start in range(0, len(array), step):
        yield start, array[start : start + step]
        release(array)


def release(array: NDArray[Any]) -> None:
    """Give back the pages of a mapped file, to be read again when they are touched."""
    pages = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def arrange(x: NDArray[Any]) -> NDArray[Any]:
    """Put the axes of `x` in order: (rows, features), or (rows, channels, height, width) for uint8.

    Arrays of other dtypes keep their shape, as only uint8 is sure to hold pixels.

    Args:
        x: array of shape (rows,) or (rows, ...).
    """
    if x.ndim == 1:
        return x[:, None]
    if x.dtype not in (np.uint8, np.bool_):
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.moveaxis(x, 3, 1)
    return x


def as_tensor(array: NDArray[Any], *, divisor: float = 1.0, real: bool = False) -> Tensor:
    """Turn an array into a tensor: torch's default dtype for real numbers, else int64.

    Args:
        array: numbers.
        divisor: what real numbers are divided by (255 for pixels).
        real: whether integers become real ones too, as for `x`.

    Raises:
        ValueError: if an integer is too large for int64.
    """
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not (real or array.dtype.kind == "f"):
        if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(f"integers up to {array.max()} are too large for int64")
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.float64)
    tensor = torch.tensor(array).to(torch.get_default_dtype())
    return tensor if divisor == 1 else tensor.div_(divisor)


def digest(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of named arrays: names, dtypes, shapes and values."""
    total = sha256()
    for name in sorted(columns):
        column = columns[name]
        total.update(f"{name} {column.dtype.str} {column.shape}".encode())
        for _, block in blocks(column):
            total.update(np.ascontiguousarray(block).view(np.uint8).reshape(-1).data)
    return total.hexdigest()


def brief(classes: tuple[str, ...]) -> str:
    """Return the names of the classes, shortened."""
    if classes == tuple(str(number) for number in range(len(classes))):
        return f"0-{len(classes) - 1}"
    return ", ".join(classes if len(classes) <= 12 else (*classes[:10], "..."))
