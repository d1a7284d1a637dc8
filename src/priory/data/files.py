"""The user's own files: arrays and tables."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import compress, islice
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from priory.data.categories import coded, pooled, recoded, refuse_dates
from priory.data.class_names import is_missing, label_array
from priory.data.columns import Arrays, Table, features_of, is_frame
from priory.data.images import read_folder
from priory.data.mapped import (
    check_size,
    expected,
    map_file,
    memory,
    read_header,
    worth_mapping,
)
from priory.data.partition import PARTS
from priory.data.steps import joined, keys_of, sequences
from priory.lookup import named

LABELS = ("y", "label", "class", "target")
"""Names of a table's column that holds labels, in any case."""

_GAPS = ("", "nan", "na", "null")  # cells that stand for a missing entry, in any case


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


def is_table(path: str | PathLike[str]) -> bool:
    """Return whether a file's ending is that of a table, with columns that have names."""
    return Path(path).suffix.lower() in TABLES


def steps_option(path: str | PathLike[str], sequence: str | None) -> dict[str, str]:
    """Return the option by which a table is read as a run's own was; none for what is no table.

    Args:
        path: the file, or a data set's name.
        sequence: the run's column of sequences, if it has one.
    """
    return {"sequence": sequence} if sequence is not None and is_table(path) else {}


def read_columns(
    path: Path, mapped: bool | None, sequence: str | None = None, *, missing: bool = False
) -> Arrays:
    """Read or map the columns of a file.

    Args:
        path: the file, or a folder of images.
        mapped: whether to map it; if `None`, only if it is large.
        sequence: column that says which sequence each row of a table is a step of.
        missing: whether entries may be missing; the file is then read into memory.

    Raises:
        ValueError: if it can't be read so; the message names the file.
    """
    if missing and mapped:
        raise ValueError("mapped=True and missing='integrate' exclude each other")
    if mapped is not None and not isinstance(mapped, bool):
        raise ValueError(f"mapped must be True, False or None, got {mapped!r}")
    stays = worth_mapping(path) if mapped is None else mapped
    stays = stays and sequence is None and not missing
    return map_file(path) if stays else read_file(path, sequence, missing=missing)


def read_file(path: Path, sequence: str | None = None, *, missing: bool = False) -> Arrays:
    """Read the columns of a file, or of a folder of images.

    Args:
        path: the file or folder; its ending decides how it is read.
        sequence: column that says which sequence each row of a table is a step of.
        missing: whether cells of a table may be empty; they are NaN in what is returned.

    Raises:
        ValueError: if the content isn't what the ending says; the message names the file.
        FileNotFoundError: if there is nothing there.
        ImportError: if an extra is needed that isn't installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if sequence is not None and not is_table(path):
        raise ValueError(f"{path}: {no_table(sequence)}; arrays of sequences are x and length")
    if path.is_dir():
        return read_folder(path)
    kind = path.suffix.lower()
    if kind not in (*READERS, *TABLES):
        raise ValueError(
            f"{path}: can't read {path.suffix or 'a file without ending'}; expected "
            f"{', '.join((*READERS, *TABLES))} or a folder of images"
        )
    with _sound(path):
        if kind in READERS:
            return READERS[kind](path)
        cells = TABLES[kind](path)
        if sequence is None:
            return _table(cells, missing=missing)
    try:
        return _table(cells, sequence)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_rows(
    path: Path, sequence: str | None = None, names: str | None = None, *, missing: bool = False
) -> tuple[Arrays, tuple[str, ...]]:
    """Read all rows of a file in its order, and what one of its columns calls them.

    Args:
        path: the file, or a folder of images.
        sequence: column that says which sequence each row of a table is a step of.
        names: column of a table that names its rows, and is no feature.
        missing: whether cells of a table may be empty; they are NaN in what is returned.

    Returns:
        The columns, and the rows' names; none without such a column.

    Raises:
        ValueError: if the file can't be read so, or holds the rows of several splits; the message
            names it.
        FileNotFoundError: if there is nothing there.
        ImportError: if an extra is needed that isn't installed.
    """
    arrays: Arrays
    found: tuple[str, ...] = ()
    if names is None:
        arrays = read_columns(path, None, sequence, missing=missing)
    else:
        arrays, found = _named_rows(path, sequence, names, missing)
    if "index" in arrays:
        raise ValueError(
            f"{path}: the column 'index' is the number that a split gives to its rows; call yours "
            "by another name, or leave it out"
        )
    if apart := [n for n in arrays if n.endswith(tuple(f"_{part}" for part in PARTS[1:]))]:
        raise ValueError(
            f"{path}: {', '.join(apart)} are the rows of other splits; give a file whose rows are "
            "all in x"
        )
    return arrays, found


def _named_rows(
    path: Path, sequence: str | None, names: str, missing: bool
) -> tuple[Arrays, tuple[str, ...]]:
    if not is_table(path) or sequence is not None:
        reason = "whose rows are data, not steps" if is_table(path) else ", ".join(TABLES)
        raise ValueError(f"{path}: id={names!r} names the rows of a table, {reason}")
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    with _sound(path):
        cells = TABLES[path.suffix.lower()](path)
    column = named("column", names, dict(zip(cells.names, cells.columns, strict=True)))
    kept = [i for i, name in enumerate(cells.names) if name != names]
    rest = _Cells(
        [cells.names[i] for i in kept], [cells.columns[i] for i in kept], cells.has_header
    )
    with _sound(path):
        return _table(rest, missing=missing), tuple(map(str, column.tolist()))


def no_table(sequence: str) -> str:
    """Return why what is no table has no column of sequences."""
    return f"sequence={sequence!r} names a column of a table, {', '.join(TABLES)} or a data frame"


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Raise whatever a reader meets in a mangled file as a ValueError that names the file."""
    try:
        yield
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        raise ValueError(f"{path}: not a sound {path.suffix} file: {what}") from error


class _Cells(NamedTuple):
    """A table as it was read: its columns, whether the file gives their names, its categories."""

    names: Sequence[str]
    columns: Sequence[NDArray[Any]]
    has_header: bool = True
    categories: frozenset[str] = frozenset()


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


def _read_csv(path: Path) -> _Cells:
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
    if header and not _of_unnamed(names):
        _check_header(names)
    rows = lines[1:] if header else lines
    if not rows:
        raise ValueError("it has a header and no rows")
    return _Cells(names, [np.array(cells) for cells in zip(*rows, strict=True)], header)


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


def _read_parquet(path: Path) -> _Cells:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("reading .parquet needs pyarrow: pip install 'priory[files]'") from error
    table = parquet.read_table(path)
    if not table.num_rows:
        raise ValueError("it has no rows")
    names = list(table.column_names)
    columns = [table.column(name).combine_chunks() for name in names]
    kinds = [hasattr(column, "dictionary_decode") for column in columns]
    columns = [c.dictionary_decode() if own else c for c, own in zip(columns, kinds, strict=True)]
    columns = [column.to_numpy(zero_copy_only=False) for column in columns]
    return _Cells(names, columns, True, frozenset(compress(names, kinds)))


def _table(cells: _Cells, sequence: str | None = None, *, missing: bool = False) -> Table:
    """Stack the numeric columns of a table to `x`, and set the labels apart as `y`.

    Args:
        cells: the table.
        sequence: column that says which sequence each row is a step of, where rows are.
        missing: whether cells may be empty.
    """
    names, columns, has_header, categories = cells
    if missing and has_header:
        _check_header(names)
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have the same name in {list(names)}")
    keys = None
    if sequence is not None:
        table = dict(zip(names, columns, strict=True))
        keys = keys_of(sequence, named("column", sequence, table))
        kept = [i for i, name in enumerate(names) if name != sequence]
        names, columns = [names[i] for i in kept], [columns[i] for i in kept]
    names, columns = _without_index(names, columns)
    labels = [name for name in names if name.lower() in LABELS]
    if len(labels) > 1:
        raise ValueError(f"more than one column of labels: {labels}; rename all but one")
    features, levels = {}, []
    for name, column in zip(names, columns, strict=True):
        if name not in labels:
            refuse_dates(name, [cell for cell in column if not _is_gap(cell)])
            alone = keys is not None or len(names) == 1 or not has_header
            text = not alone and (name in categories or _is_text(column))
            made = _category if text else _numbers
            features[name], own = made(name, column, keys, missing=missing)
            levels.append(own)
    if not features:
        others = labels if sequence is None else [sequence, *labels]
        raise ValueError(f"no feature beside the {'columns' if keys else 'labels'} {others}")
    x = np.stack(list(features.values()), 1)
    y = {name: _classes(columns[names.index(name)]) for name in labels}
    if keys is None:
        arrays = {"x": x} | dict(zip("y", y.values(), strict=False))
    else:
        arrays = sequences(x, keys, y)
    return Table(
        arrays, tuple(features) if has_header else (), tuple(levels) if any(levels) else ()
    )


def _check_header(names: Sequence[str]) -> None:
    """Raise a ValueError if a line of names may as well be a row with missing entries."""
    if any(_is_gap(name) for name in names) and not any(_is_word(name) for name in names):
        raise ValueError(
            "the first line has numbers and an empty cell: it may be the columns' names, or a row "
            "with a missing entry; write a line of names above it"
        )


def _of_unnamed(names: Sequence[str]) -> bool:
    """Return whether names are those that pandas writes of rows and columns without any."""
    return list(names) == ["", *(str(i) for i in range(len(names) - 1))]


def _is_gap(cell: object) -> bool:
    """Return whether a cell of a table stands for a missing entry."""
    return is_missing(cell) or (isinstance(cell, str) and cell.strip().lower() in _GAPS)


def _is_word(name: str) -> bool:
    return not _is_gap(name) and _number(name) is None


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


def _is_text(column: NDArray[Any]) -> bool:
    """Return whether all cells of a column that are not gaps are text, and none is a number."""
    if column.dtype.kind not in "UO":
        return False
    cells = [cell for cell in column if not _is_gap(cell)]
    return bool(cells) and all(isinstance(c, str) and not _is_like_number(c) for c in cells)


def _is_like_number(cell: str) -> bool:
    """Return whether text would be a number elsewhere, such as 1_000."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _category(
    name: str, column: NDArray[Any], keys: list[Any] | None, *, missing: bool = False
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the numbers of a column's levels, NaN for a gap, and their names."""
    seen = np.array([not _is_gap(cell) for cell in column])
    if not (missing or seen.all()):
        _refuse(name, column, int((~seen).argmax()), keys, "a category in every row")
    return coded(name, column.tolist(), seen)


def _refuse(
    name: str, column: NDArray[Any], row: int, keys: list[Any] | None, expected: str
) -> None:
    """Raise a ValueError that names a cell."""
    cell = column[row]
    what = repr(str(cell)) if str(cell).strip() else "an empty cell"
    what = "no value" if is_missing(cell) else what
    gap = "; missing='integrate' takes empty cells" if _is_gap(cell) and keys is None else ""
    place = f"row {row}" + ("" if keys is None else f", of sequence {keys[row]!r}")
    raise ValueError(f"column {name!r} has {what} in {place}, expected {expected}{gap}")


def _numbers(
    name: str, column: NDArray[Any], keys: list[Any] | None, *, missing: bool = False
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a column's numbers, NaN for a gap, and no levels."""
    if column.dtype.kind not in "biufUO":
        raise ValueError(
            f"column {name!r} holds {column.dtype}, expected numbers; convert it first"
        )
    if column.dtype.kind in "biuf":
        numbers = column.astype(np.float64)
    else:
        numbers = np.array([_value(cell) for cell in column])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if missing:
        bad = np.array([i for i in bad if not _is_gap(column[i])], dtype=np.int64)
        numbers[[i for i, cell in enumerate(column) if _is_gap(cell)]] = np.nan
    if len(bad):
        text = f"only a column named {', '.join(LABELS)} may hold text"
        if keys is None:
            text += ", or one of categories, which holds text alone"
        _refuse(name, column, int(bad[0]), keys, f"a finite number; {text}")
    return numbers, ()


def _value(cell: object) -> float:
    if isinstance(cell, Decimal | bool | int | float | np.number | np.bool_):
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


def read_frame(frame: Any, sequence: str | None = None, *, missing: bool = False) -> Table:
    """Return the columns of a data frame, as those of a table in a file.

    Args:
        frame: of pandas, or one that answers `columns` and `frame[name].to_numpy()` alike.
        sequence: column that says which sequence each row is a step of.
        missing: whether cells may be empty; they are NaN in what is returned.

    Raises:
        ValueError: if a column other than the labels holds no numbers; the message names it.
    """
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, i].to_numpy() for i in range(len(names))]
    kinds = [str(kind) == "category" for kind in frame.dtypes]
    cells = _Cells(names, columns, bool(features_of(frame)), frozenset(compress(names, kinds)))
    return _table(cells, sequence, missing=missing)


def read_mixed(columns: Mapping[str, Any], *, missing: bool = False) -> Mapping[str, Any]:
    """Return columns whose data frames of x with text are coded, all parts alike; others as given.

    Args:
        columns: by name, `x`, `x_valid` and `x_test` among them.
        missing: whether cells may be empty.

    Raises:
        ValueError: if a part is no data frame, has other features, or labels are given twice.
    """
    ends = [end for end in ("", *(f"_{p}" for p in PARTS)) if columns.get(f"x{end}") is not None]
    frames = {end: columns[f"x{end}"] for end in ends if is_frame(columns[f"x{end}"])}
    if not any(_has_text(frame) for frame in frames.values()):
        return columns
    if len(frames) < len(ends):
        raise ValueError(
            "x holds text in a data frame, and a part of it is none: give frames alike"
        )
    tables = {end: read_frame(frame, missing=missing) for end, frame in frames.items()}
    features = next(iter(tables.values())).features
    if any(table.features != features for table in tables.values()):
        raise ValueError("the frames of x must have the same columns in the same order")
    every = [table.levels or ((),) * len(features) for table in tables.values()]
    levels, found = pooled(every), dict(columns)
    for (end, table), own in zip(tables.items(), every, strict=True):
        found[f"x{end}"] = recoded(table["x"], own, levels, features, called=True)
        if "y" in table and columns.get(f"y{end}") is not None:
            raise ValueError(f"y{end} is given twice, as an argument and by the frame")
        found |= {f"y{end}": table["y"]} if "y" in table else {}
    return Table(found, features, levels)


def _has_text(frame: Any) -> bool:
    """Return whether a column of a data frame holds text, categories, dates or times."""
    for i, kind in enumerate(frame.dtypes):
        if getattr(kind, "kind", "O") in "Mm" or str(kind) == "category":
            return True
        if getattr(kind, "kind", "O") in "OUT" and any(
            isinstance(cell, str) or hasattr(cell, "isoformat") for cell in frame.iloc[:, i]
        ):
            return True
    return False


def read_steps(columns: Mapping[str, Any], sequence: str) -> Table:
    """Return columns of which `x`, `x_valid` and `x_test` are data frames of steps.

    Args:
        columns: by name; those beside the frames have a row for each sequence.
        sequence: column of the frames that says which sequence each row is a step of.

    Raises:
        ValueError: if one is no data frame, or its rows can't be put together.
    """
    found: dict[str, Table] = {}
    for end in ("", *(f"_{part}" for part in PARTS)):
        frame = columns.get(f"x{end}")
        if frame is None:
            continue
        if not is_frame(frame):
            raise ValueError(f"{no_table(sequence)}, and x{end} is none; give x and length")
        found[end] = read_frame(frame, sequence)
    if "" not in found:
        raise ValueError(f"a column 'x' is needed, got {sorted(columns)}")
    table = joined(found)
    others = {n: c for n, c in columns.items() if not (n.startswith("x") and n in table)}
    twice = [name for name in table if others.get(name) is not None]
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice, as an argument and by the frame")
    return Table({**others, **table}, table.features)


READERS: dict[str, Callable[[Path], Arrays]] = {".npz": _read_npz, ".npy": _read_npy}
TABLES: dict[str, Callable[[Path], _Cells]] = {".csv": _read_csv, ".parquet": _read_parquet}
