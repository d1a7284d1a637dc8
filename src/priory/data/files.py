"""The user's own files: arrays and tables."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priory.data.class_names import label_array
from priory.data.columns import Arrays, Table, features_of
from priory.data.images import read_folder
from priory.data.mapped import (
    check_size,
    expected,
    map_file,
    memory,
    read_header,
    worth_mapping,
)

LABELS = ("y", "label", "class", "target")
"""Names of a table's column that holds labels, in any case."""


def find(path: str | PathLike[str]) -> Path:
    """Return the absolute path that a user's path means.

    Raises:
        ValueError: if it is no path, or names the home of a user that there isn't.
    """
    try:
        if not str(path).strip():
            raise ValueError("it is empty")
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path!r} is no path: {error}") from error


def read_columns(path: Path, mapped: bool | None) -> Arrays:
    """Read or map the columns of a file.

    Args:
        path: the file, or a folder of images.
        mapped: whether to map it; if `None`, only if it is large.

    Raises:
        ValueError: if it can't be read so; the message names the file.
    """
    if mapped is not None and not isinstance(mapped, bool):
        raise ValueError(f"mapped must be True, False or None, got {mapped!r}")
    stays = worth_mapping(path) if mapped is None else mapped
    return map_file(path) if stays else read_file(path)


def read_file(path: Path) -> Arrays:
    """Read the columns of a file, or of a folder of images.

    Args:
        path: the file or folder; its ending decides how it is read.

    Raises:
        ValueError: if the content isn't what the ending says; the message names the file.
        FileNotFoundError: if there is nothing there.
        ImportError: if an extra is needed that isn't installed.
    """
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: can't read {path.suffix or 'a file without ending'}; expected "
            f"{', '.join(READERS)} or a folder of images"
        )
    try:
        return reader(path)
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # whatever a reader meets in a mangled file
        what = str(error) or type(error).__name__
        raise ValueError(f"{path}: not a sound {path.suffix} file: {what}") from error


def _read_npy(path: Path) -> Arrays:
    with path.open("rb") as file:
        return {"x": _read_array(file, path.stat().st_size)}


def _read_npz(path: Path) -> Arrays:
    arrays: Arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if 0 < memory() < total:
            raise ValueError(f"its arrays take {total:,} bytes, more than there is memory")
        for member in members:
            name = member.filename.removesuffix(".npy").removesuffix("_train")
            if name in arrays:
                raise ValueError(f"two arrays have the name {name!r}")
            with archive.open(member) as file:
                arrays[name] = _read_array(file, member.file_size)
    return expected(arrays)


def _read_array(file: Any, size: int) -> NDArray[Any]:
    """Read an array in NumPy's format, once its header and its size are found to agree."""
    start = file.tell()
    shape, _, dtype = read_header(file)
    check_size(shape, dtype, size - (file.tell() - start))
    file.seek(start)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):
        raise ValueError(f"bytes left after the array of shape {shape}")
    return array


def _read_csv(path: Path) -> Arrays:
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        lines = list(csv.reader(file, delimiter=delimiter, strict=True))
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0])
    for number, line in enumerate(lines):
        if len(line) != width and (line or width == 1):
            raise ValueError(f"line {number + 1} has {len(line)} cells, the first has {width}")
    lines = [line for line in lines if line]
    header = _has_header(lines)
    names = [name.strip() for name in lines[0]] if header else [f"{i + 1}" for i in range(width)]
    rows = lines[1:] if header else lines
    if not rows:
        raise ValueError("it has a header and no rows")
    return _table(names, [np.array(cells) for cells in zip(*rows, strict=True)], named=header)


def _has_header(lines: Sequence[Sequence[str]]) -> bool:
    first = [_number(cell) is not None for cell in lines[0]]
    if all(first):
        return False
    if any(name.strip().lower() in LABELS for name in lines[0]) or not any(first):
        return True
    return any(
        not numeric and all(_number(line[i]) is not None for line in islice(lines, 1, 20))
        for i, numeric in enumerate(first)
    )


def _number(cell: str) -> float | None:
    if "_" in cell or cell.strip(" ") != cell.strip():  # Python's float is less strict than a table
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _read_parquet(path: Path) -> Arrays:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("reading .parquet needs pyarrow: pip install 'priory[files]'") from error
    table = parquet.read_table(path)
    if not table.num_rows:
        raise ValueError("it has no rows")
    columns = []
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if column.null_count and name.lower() not in LABELS:
            row = next(i for i, value in enumerate(column) if not value.is_valid)
            raise ValueError(f"column {name!r} has no value in row {row}; fill or drop such rows")
        columns.append(column.to_numpy(zero_copy_only=False))
    return _table(list(table.column_names), columns)


def _table(names: Sequence[str], columns: Sequence[NDArray[Any]], *, named: bool = True) -> Table:
    """Stack the numeric columns of a table to `x`, and set the labels apart as `y`."""
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have the same name in {list(names)}")
    names, columns = _without_index(names, columns)
    labels = [name for name in names if name.lower() in LABELS]
    if len(labels) > 1:
        raise ValueError(f"more than one column of labels: {labels}; rename all but one")
    features = {
        name: _numbers(name, column)
        for name, column in zip(names, columns, strict=True)
        if name not in labels
    }
    if not features:
        raise ValueError(f"no feature beside the labels {labels}")
    arrays = {"x": np.stack(list(features.values()), 1)}
    for name, column in zip(names, columns, strict=True):
        if name in labels:
            arrays["y"] = _classes(column)
    return Table(arrays, tuple(features) if named else ())


def _without_index(
    names: Sequence[str], columns: Sequence[NDArray[Any]]
) -> tuple[list[str], list[NDArray[Any]]]:
    """Leave out the column of row numbers that pandas writes, which is no feature."""
    kept = []
    for i, name in enumerate(names):
        unnamed = name.strip() == "" or name.startswith(("Unnamed: ", "__index_level_"))
        if not (unnamed and len(names) > 1 and _counts(columns[i])):
            kept.append(i)
    return [names[i] for i in kept], [columns[i] for i in kept]


def _counts(column: NDArray[Any]) -> bool:
    """Return whether a column holds each integer once, as an index does."""
    cells = [_value(cell) if isinstance(cell, str) else cell for cell in column.tolist()]
    numbers = {cell for cell in cells if isinstance(cell, int | float) and cell == int(cell)}
    return len(numbers) == len(cells)


def _numbers(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind not in "biufUO":
        raise ValueError(
            f"column {name!r} holds {column.dtype}, expected numbers; convert it first"
        )
    if column.dtype.kind in "biuf":
        numbers = column.astype(np.float64)
    else:
        numbers = np.array([_value(cell) for cell in column])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        cell = str(column[bad[0]])
        what = "an empty cell" if not cell.strip() else repr(cell)
        raise ValueError(
            f"column {name!r} has {what} in row {bad[0]}, expected a finite number; "
            f"only a column named {', '.join(LABELS)} may hold text"
        )
    return numbers


def _value(cell: object) -> float:
    if isinstance(cell, Decimal):
        return float(cell)
    number = _number(cell) if isinstance(cell, str) else None
    return np.nan if number is None else number


def _classes(column: NDArray[Any]) -> NDArray[Any]:
    """Labels as numbers if all of them are, else as strings; unknown ones are NaN, or empty."""
    column = label_array(column)
    if column.dtype.kind not in "USO":
        return column
    text = np.array([str(cell).strip() for cell in column])
    numbers = [_number(label) if label else np.nan for label in text]
    if not any(number is None for number in numbers):
        return np.array(numbers, np.float64)  # fractions are refused with all labels
    return text


def read_frame(frame: Any) -> Arrays:
    """Return the columns of a data frame, as those of a table in a file.

    Args:
        frame: of pandas, or one that answers `columns` and `frame[name].to_numpy()` alike.

    Raises:
        ValueError: if a column other than the labels holds no numbers; the message names it.
    """
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, i].to_numpy() for i in range(len(names))]
    return _table(names, columns, named=bool(features_of(frame)))


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
