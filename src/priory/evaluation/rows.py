"""The rows that an evaluation looks at: from any form of data to checked columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory.data.class_names import UNKNOWN
from priory.data.missing import SEEN
from priory.lookup import suggestion

Columns = dict[str, Tensor]

SPLITS = ("train", "valid", "test")
_ROWS = 4096  # rows at a time


def split_of(data: Any, split: str, limit: int | None = None) -> Columns:
    """Return the columns of one split, checked.

    Args:
        data: a `Data`, one of its splits, columns by name, or an array whose rows are `x`. Only a
            `Data` has several splits; anything else is taken whole.
        split: train, valid or test.
        limit: at most so many rows, evenly spaced over the split.

    Raises:
        ValueError: if the split is unknown or has no rows, columns differ in length, or a value is
            NaN or infinite.
    """
    if split not in SPLITS:
        hint = suggestion(split, SPLITS)
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}{hint}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    part = getattr(data, split) if has_splits(data) else data
    return thin(check(read(part), split), limit)


def has_splits(data: Any) -> bool:
    """Return whether data are divided into train, valid and test."""
    return not isinstance(data, Mapping) and all(hasattr(data, name) for name in SPLITS)


def read(part: Any) -> Columns:
    """Return a split, a mapping of columns or an array as columns of tensors.

    Args:
        part: a split (its training pixels binarised once, where it draws them anew for each batch),
            a mapping from names to arrays, or an array whose rows are `x`.
    """
    if hasattr(part, "columns") and isinstance(part.columns, Mapping):
        part = part.resident() if hasattr(part, "resident") else part
        columns = {name: torch.as_tensor(value) for name, value in part.columns.items()}
        if hasattr(part, "snapshot"):
            columns["x"] = part.snapshot()
        return columns
    if isinstance(part, Mapping):
        columns = {str(name): torch.as_tensor(value) for name, value in part.items()}
        return columns | ({"x": scaled(columns["x"])} if "x" in columns else {})
    if isinstance(part, (Tensor, np.ndarray, list)):
        x = scaled(torch.as_tensor(np.asarray(part) if isinstance(part, list) else part))
        if not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        return {"x": x}
    raise ValueError(
        f"data must be a Data, a split, a mapping of columns or an array, got {type(part).__name__}"
    )


def scaled(x: Tensor) -> Tensor:
    """Return pixels 0..255 of dtype uint8 scaled to [0, 1], as `Data` does; others as they are."""
    if x.dtype != torch.uint8 or not len(x) or int(x.max()) <= 1:
        return x
    return x.to(torch.get_default_dtype()) / 255


def check(columns: Columns, split: str = "test") -> Columns:
    """Raise a ValueError unless the columns are of equal length, not empty and finite."""
    if not columns:
        raise ValueError("the data have no columns; give at least x")
    lengths = {name: len(value) if value.dim() else 0 for name, value in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must have the same number of rows, got {lengths}")
    if not next(iter(lengths.values())):
        raise ValueError(f"the {split} split has no rows; choose another split or give more data")
    for name, value in columns.items():
        if value.is_floating_point() or value.is_complex():
            bad = (~rows_of(value).isfinite()).any(1)
            if bad.any():
                first = int(bad.nonzero()[0])
                raise ValueError(
                    f"column {name!r} has NaN or infinite values in {int(bad.sum())} rows, the "
                    f"first of them row {first}; drop or impute them"
                )
    return columns


def thin(columns: Columns, limit: int | None) -> Columns:
    """Keep at most `limit` rows, evenly spaced, so that sorted data stay represented."""
    rows = len(next(iter(columns.values())))
    if limit is None or rows <= limit:
        return columns
    index = torch.linspace(0, rows - 1, limit, dtype=torch.float64).round().long()
    return {name: value[index.to(value.device)] for name, value in columns.items()}


def has_missing(columns: Columns) -> bool:
    """Return whether entries of x are missing."""
    return SEEN in columns and not bool(columns[SEEN].all())


def has_unknown(columns: Columns | None) -> bool:
    """Return whether there are labels y of which some are unknown."""
    y = None if columns is None else columns.get("y")
    return y is not None and not y.is_floating_point() and bool((y == UNKNOWN).any())


def labelled_rows(columns: Columns) -> Columns:
    """Keep the rows whose label is known."""
    if not has_unknown(columns):
        return columns
    known = (columns["y"] != UNKNOWN).nonzero().flatten()
    return {name: value[known.to(value.device)] for name, value in columns.items()}


def rows_of(x: Tensor) -> Tensor:
    """Flatten each datum, `(n, *shape)` to `(n, d)`."""
    return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def place(columns: Columns, like: Tensor | None) -> Columns:
    """Move columns to a parameter's device, and floating-point ones to its dtype."""
    if like is None:
        return columns
    return {
        name: value.to(like.device, like.dtype if value.is_floating_point() else None)
        for name, value in columns.items()
    }


def blocks(
    columns: Columns, size: int, like: Tensor | None = None
) -> Iterator[tuple[int, Columns]]:
    """Return the columns in blocks of rows, each with its first row's number, placed by `like`."""
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, size):
        part = {name: value[start : start + size] for name, value in columns.items()}
        yield start, place(part, like)


def digest_of(columns: Columns) -> str:
    """Return the SHA-256 of the rows of x, by which two reports prove that they share them.

    It does not depend on the device, nor on whether the rows are held in single or double.

    Args:
        columns: by name; all columns count where none is x.
    """
    sha = hashlib.sha256()
    for name in ["x"] if "x" in columns else sorted(columns):
        value = columns[name].detach()
        sha.update(f"{name}{tuple(value.shape)}".encode())
        for start in range(0, len(value), _ROWS):
            block = value[start : start + _ROWS].double().cpu().contiguous()
            sha.update(block.numpy().astype("<f8").tobytes())
    return sha.hexdigest()


def source_of(given: Any, preparation: Any, split: str, limit: int | None) -> str:
    """Return what names rows before they were prepared, equal where they are; "" if unknown.

    A `Data` is named by its configuration, the digest of its content included; columns or an array
    by their own digest. Standardisation, which reports undo, does not count; what was binarised or
    divided are other rows.

    Args:
        given: the data as they were given.
        preparation: of the rows as they are judged.
        split: which part of a `Data`.
        limit: at most so many of its rows.
    """
    config = getattr(given, "config", None)
    if isinstance(config, Mapping):
        own = {k: v for k, v in sorted(config.items()) if k not in ("standardise", "mapped")}
    elif isinstance(given, Mapping | Tensor | np.ndarray):
        rows = {"x": given["x"]} if isinstance(given, Mapping) and "x" in given else given
        own = {"digest": digest_of(read(rows)), "split": ""}
    else:
        return ""
    done = (getattr(preparation, name, None) for name in ("shape", "divisor", "binarise"))
    return hashlib.sha256(repr((own, *done, split, limit)).encode()).hexdigest()
