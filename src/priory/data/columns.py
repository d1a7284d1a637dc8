"""Columns: from whatever the user holds to checked arrays."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]

_MOST_CLASSES = 10_000
_BLOCK = 1 << 25  # bytes


def as_array(name: str, values: object) -> NDArray[Any]:
    """Turn an array-like into an array with rows, every value of it finite.

    Args:
        name: name of the column, for the messages.
        values: a tensor, array, data frame or nested sequence with the rows first.

    Raises:
        ValueError: if the values are ragged, of a dtype that isn't understood, without rows, or
            not finite; the message names the first bad row.
    """
    try:
        values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        array = values if isinstance(values, np.memmap) else np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {name!r} is not an array with equal rows: {error}") from error
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(np.str_)
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
        _check_finite(name, array)
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


def encode(values: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn labels into whole numbers from 0 and name the classes.

    Whole numbers from 0 up are kept; all else is numbered in sorted order.

    Args:
        values: labels of shape (rows,).

    Returns:
        The numbers, and the names of the classes 0, 1, ...

    Raises:
        ValueError: if the labels have a wrong rank or are fractions.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"labels 'y' must have shape (rows,), got {values.shape}")
    if values.dtype.kind == "f":
        fractions = np.flatnonzero(values != np.floor(values))
        if len(fractions):
            raise ValueError(
                f"labels 'y' must be whole numbers or strings, got {values[fractions[0]]} in row "
                f"{fractions[0]}; pass a continuous target as a column of another name"
            )
    if values.dtype.kind in "iuf" and values.min() >= 0 and values.max() < _MOST_CLASSES:
        numbers = values.astype(np.int64)
        return numbers, tuple(str(i) for i in range(int(numbers.max()) + 1))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    names, inverse = np.unique(values, return_inverse=True)
    whole = values.dtype.kind == "f"  # -1.0 is the class -1
    return inverse.astype(np.int64), tuple(f"{name:.0f}" if whole else str(name) for name in names)


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
        real: whether whole numbers become real ones too, as for `x`.

    Raises:
        ValueError: if a whole number is too large for int64.
    """
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not (real or array.dtype.kind == "f"):
        if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(f"whole numbers up to {array.max()} are too large for int64")
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
    """Return the names of the classes in few words."""
    if classes == tuple(str(number) for number in range(len(classes))):
        return f"0-{len(classes) - 1}"
    return ", ".join(classes if len(classes) <= 12 else (*classes[:10], "..."))
