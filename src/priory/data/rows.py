"""New rows in any form, prepared as the training rows of a run were."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory.data.columns import as_array, as_tensor, is_frame
from priory.data.data import Data
from priory.data.files import find, is_table, read_frame, read_rows, steps_option
from priory.data.partition import PARTS
from priory.data.preparation import Preparation
from priory.data.split import Split
from priory.data.table import SETS


def prepared(given: Any, preparation: Preparation | None, *, drop: bool = False) -> Any:
    """Return rows prepared as the training rows were, in a form that has the same columns.

    Rows that a `Data` or its split holds know how they were prepared: nothing is done twice, and
    what was done otherwise is undone first. Columns with an `index`, as a split serves them, are
    taken as they are. Anything else is in the units of the training rows before they were
    prepared.

    Args:
        given: a `Data`, a split, columns by name, a data frame, an array whose rows are `x`, or the
            name of a set or file.
        preparation: of the training rows; `None` leaves all as it is.
        drop: whether a class that the training rows lack becomes an unknown label; it is an error
            otherwise.

    Raises:
        ValueError: if the rows cannot be prepared so.
    """
    if preparation is None or given is None:
        return given
    if isinstance(given, str | Path):
        given = _opened(given, preparation.sequence)
    if isinstance(given, Data):
        return given.like(preparation, drop=drop)
    if isinstance(given, Split):
        return _split(given, preparation, drop)
    if is_frame(given):
        given = read_frame(given, preparation.sequence)
    if isinstance(given, Mapping):
        return given if "index" in given else preparation.columns(given, drop=drop)
    if all(hasattr(given, part) for part in PARTS):
        made = copy(given)
        for part in PARTS:
            setattr(made, part, prepared(getattr(given, part), preparation, drop=drop))
        return made
    if hasattr(given, "columns"):
        return given
    return preparation.columns({"x": given}, drop=drop)


def is_file(given: Any) -> bool:
    """Return whether data are given by the path of a file or folder, not by the name of a set."""
    return isinstance(given, str | Path) and str(given).partition(":")[0] not in SETS


def rows_of_file(
    path: str | Path, preparation: Preparation | None, names: str | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return all rows of a file, in its order, prepared as the training rows were.

    Args:
        path: the file, or a folder of images.
        preparation: of the training rows; `None` leaves all as it is.
        names: column of a table that names its rows, and is no feature.

    Returns:
        The columns, with `index`, the rows' numbers; and their names, none without such a column.

    Raises:
        ValueError: if the file can't be read, or its rows cannot be prepared so.
        FileNotFoundError: if there is nothing there.
    """
    sequence = None if preparation is None else preparation.sequence
    arrays, called = read_rows(find(path), sequence if is_table(path) else None, names)
    try:
        if preparation is None:
            columns = {n: as_tensor(as_array(n, a), real=n == "x") for n, a in arrays.items()}
        else:
            columns = preparation.columns(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return columns | {"index": torch.arange(len(columns["x"]))}, called


def _opened(name: str | Path, sequence: str | None) -> Data:
    """Open data with grey levels left as they are, and tables as the sequences of their rows."""
    base = str(name).partition(":")[0]
    fixed = base in SETS and SETS[base].binarise == "none"
    binarise = "auto" if fixed else "none"
    return Data.open(name, binarise=binarise, **steps_option(name, sequence))


def _split(split: Split, preparation: Preparation, drop: bool) -> Split:
    former = split.preparation
    if former is None:
        columns: Any = {n: c for n, c in split.columns.items() if n != "index"}
        columns["x"] = split.resident().snapshot()
        columns = preparation.columns(columns, stream=split.stream, drop=drop)
    elif former == preparation:
        return split
    else:
        dynamic = split.dynamic and preparation.binarise == "dynamic"
        columns = preparation.again(
            split.columns, former, dynamic=dynamic, stream=split.stream, drop=drop
        )
    return Split(
        columns,
        dynamic=split.dynamic and preparation.binarise == "dynamic",
        stream=split.stream,
        device=split.device,
        preparation=preparation,
    )
