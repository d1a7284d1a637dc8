"""What users hold their rows in: data frames, AnnData, torch's data sets and loaders, iterables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from priory.data.categories import Levels, pooled, recoded
from priory.data.columns import Table, features_of, is_frame, levels_of
from priory.data.files import LABELS, find, read_frame, read_steps
from priory.data.mapped import memory
from priory.lookup import named

ROOM = 0.25
"""Rows that are read into memory take at most this share of it."""

Columns = Mapping[str, Any]


def is_annotated(given: object) -> bool:
    """Return whether something is an AnnData object, by what it has."""
    return all(hasattr(type(given), part) for part in ("X", "obs", "var_names", "layers"))


def is_h5ad(path: object) -> bool:
    """Return whether a path is that of a file of AnnData."""
    return isinstance(path, str | Path) and str(path).lower().endswith(".h5ad")


def is_dataset(given: object) -> bool:
    """Return whether something is a data set of torch whose items have numbers."""
    return isinstance(given, Dataset) and not isinstance(given, IterableDataset)


def is_batches(given: object) -> bool:
    """Return whether something gives batches: a loader, an iterable or a function of one."""
    if isinstance(given, DataLoader):
        return True
    if isinstance(given, str | bytes | Path | Mapping | list | tuple | range | Dataset | Tensor):
        return isinstance(given, IterableDataset)
    known = ("__array__", "columns", "train", "X")  # arrays, frames, splits, Data, AnnData
    iterable = hasattr(given, "__iter__") or (callable(given) and not isinstance(given, type))
    return iterable and not any(hasattr(given, name) for name in known)


def is_function(given: object) -> bool:
    """Return whether something is a function that makes rows or batches."""
    return is_batches(given) and callable(given) and not hasattr(given, "__iter__")


def in_memory(given: Any, preparation: Any = None) -> Any:
    """Return rows in any of these forms as columns by name; anything else as it is.

    Args:
        given: rows: a polars data frame (as one of pandas), AnnData, a data set of torch, a loader
            or an iterable of batches, which is read once, in its order.
        preparation: of the training rows, which says what layer and label of AnnData they are.

    Raises:
        ValueError: if they cannot be read so, or take more memory than there is.
    """
    kind = type(given)
    if hasattr(kind, "to_numpy") and is_frame(given) and not hasattr(kind, "iloc"):
        return as_pandas(given)
    if is_annotated(given):
        layer, label = (getattr(preparation, name, None) for name in ("layer", "label"))
        return annotated(given, layer, label)
    if is_dataset(given):
        return of_dataset(given)
    return joined(passes(given)) if is_batches(given) else given


def columns_of(
    given: Any, layer: str | None = None, label: str | None = None, *, missing: bool = False
) -> Columns:
    """Return rows in any form as columns by name, `x` among them, those of a table apart.

    Args:
        given: as for `in_memory`; or a data frame of pandas, columns by name, or an array of x.
        layer: of AnnData, in place of its X.
        label: column of AnnData's `obs` that has the labels.
        missing: whether cells of a table may be empty.

    Raises:
        ValueError: if they cannot be read so.
    """
    if is_annotated(given):
        return annotated(given, layer, label)
    for option, value in (("layer", layer), ("label", label)):
        if value is not None:
            raise ValueError(
                f"{option}={value!r} is of AnnData, and the rows are a {type(given).__name__}; "
                "leave it out"
            )
    given = in_memory(given)
    if is_frame(given):
        return read_frame(given, missing=missing)
    return given if isinstance(given, Mapping) else {"x": given}


def source_of(given: Any) -> tuple[str, str]:
    """Return what data of such rows are called in a configuration, and for the user."""
    if hasattr(type(given), "collect") and not hasattr(type(given), "to_numpy"):
        raise ValueError(f"a {type(given).__name__} has no rows yet: collect() it first")
    once = is_batches(given)
    name = "table" if is_frame(given) or is_annotated(given) else "arrays"
    return ("iterator", "iterator") if once else ("arrays", name)


def together(
    given: Mapping[str, Any],
    layer: str | None = None,
    label: str | None = None,
    sequence: str | None = None,
    *,
    missing: bool = False,
) -> Columns:
    """Return the columns of rows, and of those of other splits that are given in a form of theirs.

    Args:
        given: rows in any form, of `train`, and where they are given `valid` and `test`.
        layer: as for `columns_of`.
        label: likewise.
        sequence: column of data frames that says which sequence each row is a step of.
        missing: as for `columns_of`.

    Raises:
        ValueError: if they cannot be read, or have other features.
    """
    ends = {"train": "", "valid": "_valid", "test": "_test"}
    if sequence is not None:
        frames = {f"x{ends[part]}": in_memory(own) for part, own in given.items()}
        return read_steps(frames, sequence)
    found: dict[str, Any] = {}
    features: tuple[str, ...] = ()
    levels: dict[str, Levels] = {}
    for part, own in given.items():
        columns = columns_of(own, layer, label, missing=missing)
        names = features_of(columns)
        mine = levels_of(columns) or ((),) * len(names)
        features = names if part == "train" else features
        if {*names} != {*features}:
            raise ValueError(
                f"the {part} rows have the features {', '.join(names) or 'without names'}, the "
                f"training rows {', '.join(features) or 'without names'}"
            )
        if names != features:
            order = [names.index(name) for name in features]
            columns = {**columns, "x": np.asarray(columns["x"])[:, order]}
            mine = tuple(mine[i] for i in order)
        found |= {f"{name}{ends[part]}": value for name, value in columns.items()}
        levels[f"x{ends[part]}"] = mine
    if not any(any(own) for own in levels.values()):
        return Table(found, features)
    all_levels = pooled([*levels.values()])
    for name, own in levels.items():
        found[name] = recoded(found[name], own, all_levels, features, called=True)
    return Table(found, features, all_levels)


def check_plain(path: object, layer: str | None, label: str | None) -> None:
    """Raise a ValueError if options of AnnData are given for another file."""
    for option, value in (("layer", layer), ("label", label)):
        if value is not None:
            raise ValueError(f"{option}={value!r} is of an .h5ad, and {path} is none: leave it out")


def as_pandas(frame: Any) -> Any:
    """Return a data frame of another library, such as polars, as one of pandas.

    Raises:
        ValueError: if it has not been collected.
    """
    import pandas as pd

    names = [str(name) for name in frame.columns]
    try:
        return pd.DataFrame({name: frame[name].to_numpy() for name in names})
    except TypeError as error:
        raise ValueError(
            f"the rows of a {type(frame).__name__} cannot be read: {error}; collect it first"
        ) from error


def annotated(given: Any, layer: str | None = None, label: str | None = None) -> Table:
    """Return the rows of AnnData: its matrix, dense, as `x`, and a column of `obs` as `y`.

    Args:
        given: AnnData; its matrix may be sparse, or backed by a file.
        layer: a layer in place of X.
        label: column of `obs` that has the labels; by default the one that is called y, label,
            class or target, if there is one.

    Raises:
        ValueError: if there is no such layer or column, names are given twice, or memory has no
            room for the rows.
    """
    matrix = given.X if layer is None else named("layer", layer, dict(given.layers))
    if matrix is None:
        raise ValueError(f"X is empty; name a layer, of {', '.join(given.layers) or 'which none'}")
    features = tuple(map(str, given.var_names))
    if len(set(features)) < len(features):
        raise ValueError("two variables have the same name; call var_names_make_unique() first")
    check_room(matrix.shape[0], matrix.shape[1] * 8, "give fewer variables, or batches")
    matrix = matrix[:] if hasattr(given, "isbacked") and given.isbacked else matrix
    x = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
    arrays = {"x": x if x.dtype.kind == "f" else x.astype(np.float64)}
    columns = {str(name): name for name in given.obs.columns}
    usual = [name for name in columns if name.lower() in LABELS]
    if label is None and len(usual) > 1:
        raise ValueError(f"more than one column of obs may be the label: {usual}; name it: label=")
    if label is not None or usual:
        found = named("column of obs", usual[0] if label is None else label, columns)
        arrays["y"] = np.asarray(given.obs[found].to_numpy())
    return Table(arrays, features)


def read_h5ad(path: Any, layer: str | None = None, label: str | None = None) -> Table:
    """Return the rows of a file of AnnData, as `annotated` does.

    Raises:
        ValueError: if it is no such file, or has no such layer or column; the message names it.
        FileNotFoundError: if there is none.
        ImportError: if anndata is not installed.
    """
    path = find(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        import anndata
    except ImportError as error:
        raise ImportError("reading .h5ad needs anndata: pip install 'priory[frames]'") from error
    try:
        return annotated(anndata.read_h5ad(path), layer, label)
    except Exception as error:  # whatever the reader meets in a mangled file
        raise ValueError(f"{path}: {error}") from error


def of_dataset(dataset: Any) -> Columns:
    """Return all items of a data set, in its order, as columns.

    Args:
        dataset: of torch; an item is x, a pair (x, y), or columns by name.

    Raises:
        ValueError: if an item is none of these, has another shape than the first, is drawn anew
            each time it is asked for, or memory has no room for all.
    """
    if isinstance(dataset, TensorDataset):
        return batch_of(dataset.tensors, "the data set")
    rows = len(dataset)
    if not rows:
        raise ValueError(f"the {type(dataset).__name__} has no rows")
    first = batch_of(dataset[0], "item 0")
    for i in {0, rows // 2, rows - 1}:
        if not _same(batch_of(dataset[i], "an item"), batch_of(dataset[i], "an item")):
            raise ValueError(
                f"item {i} of the {type(dataset).__name__} is another each time it is asked for, "
                "as of a random transformation, and its rows are read once: give a DataLoader of "
                "it, whose batches are taken as they come, or leave the transformation out"
            )
    size = sum(np.asarray(value).nbytes for value in first.values())
    check_room(rows, size, "give a DataLoader, whose batches are taken as they come")
    held: dict[str, Any] = {}
    words: dict[str, list[str]] = {}
    for i in range(rows):
        item = first if i == 0 else batch_of(dataset[i], f"item {i}")
        if item.keys() != first.keys():
            raise ValueError(f"item {i} has {sorted(item)}, the first one {sorted(first)}")
        for name, value in item.items():
            array = _array(value)
            if i == 0:
                held[name] = np.empty((rows, *array.shape), array.dtype)
            if array.shape != held[name].shape[1:]:
                raise ValueError(
                    f"{name!r} of item {i} has the shape {array.shape}, of the first one "
                    f"{held[name].shape[1:]}: pad or crop them, with a column 'length'"
                )
            if array.dtype.kind in "US" and not array.ndim:  # of any number of letters
                words.setdefault(name, []).append(str(array))
            else:
                held[name][i] = array
    return held | {name: np.array(texts) for name, texts in words.items()}


def batch_of(item: Any, what: str) -> dict[str, Any]:
    """Return a batch, or one item, as columns by name.

    Args:
        item: x, a pair (x, y), or columns by name.
        what: it is, for the message.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(item, Mapping):
        if "x" not in item:
            raise ValueError(f"{what} has the columns {sorted(map(str, item))}, and none called x")
        return {str(name): value for name, value in item.items()}
    if isinstance(item, list | tuple):
        if not 1 <= len(item) <= 2:
            raise ValueError(
                f"{what} is a {type(item).__name__} of {len(item)}, and may be x, (x, y), or a "
                "dict of columns by name"
            )
        return dict(zip(("x", "y"), item, strict=False))
    if not isinstance(item, Tensor) and not hasattr(item, "__array__"):
        raise ValueError(
            f"{what} is a {type(item).__name__}, and may be x, (x, y), or a dict of columns by name"
        )
    return {"x": item}


def passes(given: Any) -> Iterator[Any]:
    """Return one pass over the batches of a loader, an iterable, or what a function returns.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(given, IterableDataset):
        raise ValueError(
            f"{type(given).__name__} gives single rows: make batches of them, "
            "DataLoader(dataset, batch_size=128)"
        )
    made = given() if callable(given) and not hasattr(given, "__iter__") else given
    if not isinstance(made, Iterable):
        raise ValueError(f"{given!r} gives a {type(made).__name__}, expected batches")
    return iter(made)


def joined(batches: Iterable[Any]) -> Columns:
    """Return the rows of all batches, in their order, as columns.

    Raises:
        ValueError: if batches differ in columns or shapes, there is none, or memory has no room.
    """
    held: list[dict[str, NDArray[Any]]] = []
    taken = 0
    for number, item in enumerate(batches):
        arrays = {n: _array(v) for n, v in batch_of(item, f"batch {number}").items()}
        for name, array in arrays.items():
            first = held[0].get(name) if held else array
            if first is None or not array.ndim or array.shape[1:] != first.shape[1:]:
                shape = None if first is None else first.shape[1:]
                raise ValueError(
                    f"{name!r} of batch {number} has rows of shape {array.shape[1:]}, expected "
                    f"{shape} as in the first batch"
                )
        if held and arrays.keys() != held[0].keys():
            raise ValueError(f"batch {number} has {sorted(arrays)}, the first {sorted(held[0])}")
        held.append(arrays)
        taken += sum(array.nbytes for array in arrays.values())
        check_room(1, taken, "give a DataLoader, or a function that begins the batches anew")
    if not held:
        raise ValueError("there is no batch; an iterator that was read before has none left")
    return {name: np.concatenate([arrays[name] for arrays in held]) for name in held[0]}


def check_room(rows: int, size: int, mend: str) -> None:
    """Raise a ValueError if rows of so many bytes each would take too much of the memory."""
    if 0 < ROOM * memory() < rows * size:
        raise ValueError(
            f"the rows take {rows * size / 1e9:,.1f} GB in memory, of {memory() / 1e9:,.1f} GB; "
            f"{mend}"
        )


def _array(value: Any) -> NDArray[Any]:
    found: NDArray[Any] = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    return found


def _same(one: Columns, other: Columns) -> bool:
    pairs = ((_array(one[name]), _array(other[name])) for name in one)
    return one.keys() == other.keys() and all(np.array_equal(a, b) for a, b in pairs)
