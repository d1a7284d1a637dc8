"""New rows in any form, prepared as the training rows of a run were."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.columns import Arrays, Table, as_array, as_tensor, is_frame
from priory.data.data import Data
from priory.data.files import find, is_table, read_frame, read_rows, steps_option
from priory.data.inputs import in_memory, is_h5ad, read_h5ad
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
        given: a `Data`, a split, columns by name, a data frame, AnnData, a data set or loader of
            torch, an iterable of batches, an array whose rows are `x`, or the name of a set or
            file.
        preparation: of the training rows; `None` leaves all as it is.
        drop: whether a class that the training rows lack becomes an unknown label; it is an error
            otherwise.

    Raises:
        ValueError: if the rows cannot be prepared so.
    """
    if preparation is None or given is None:
        return given
    if isinstance(given, str | Path):
        given = _opened(given, preparation)
    if isinstance(given, Data):
        return given.like(preparation, drop=drop)
    if isinstance(given, Split):
        return _split(given, preparation, drop)
    given = in_memory(given, preparation)
    if is_frame(given):
        given = read_frame(given, preparation.sequence, missing=preparation.fill is not None)
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


class Given(dict[str, Tensor]):
    """Prepared columns that know x as it was given.

    Args:
        columns: by name.
        own: x in its own units, shaped and ordered as the training rows; None if it is not kept.
    """

    def __init__(self, columns: Mapping[str, Tensor], own: NDArray[np.float64] | None) -> None:
        super().__init__(columns)
        self.own = own


def as_given(given: Any, preparation: Preparation | None) -> NDArray[np.float64] | None:
    """Return x as the user has it, in its own units and in the order of the training rows.

    Args:
        given: rows in any form.
        preparation: of the training rows.

    Returns:
        Rows in float64, 0 where an entry is missing; None of rows that were prepared before.
    """
    if isinstance(given, Given):
        return given.own
    if preparation is None or given is None or isinstance(given, str | Path):
        return None
    given = in_memory(given, preparation)
    if is_frame(given):
        given = read_frame(given, preparation.sequence, missing=preparation.fill is not None)
    if not isinstance(given, Mapping):
        prepared_before = hasattr(given, "columns") or hasattr(given, "train")
        return None if prepared_before else preparation.in_order({"x": given})
    return None if "index" in given else preparation.in_order(given)


def rows_of_file(
    path: str | Path, preparation: Preparation | None, names: str | None = None
) -> tuple[Given, tuple[str, ...]]:
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
    holed = preparation is not None and preparation.fill is not None
    table = sequence if is_table(path) else None
    arrays: Arrays
    if is_h5ad(path):
        arrays, called = _annotated(path, preparation, names)
    else:
        arrays, called = read_rows(find(path), table, names, missing=holed)
    try:
        own = preparation.in_order(arrays) if preparation is not None and holed else None
        if preparation is None:
            columns = {n: as_tensor(as_array(n, a), real=n == "x") for n, a in arrays.items()}
        else:
            columns = preparation.columns(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Given(columns | {"index": torch.arange(len(columns["x"]))}, own), called


def _annotated(
    path: str | Path, preparation: Preparation | None, names: str | None
) -> tuple[Table, tuple[str, ...]]:
    """Return the rows of an .h5ad, by the layer and the label of the training rows."""
    if names is not None:
        raise ValueError(f"{path}: id={names!r} names the rows of a table, and an .h5ad is none")
    return read_h5ad(path, **_layers(preparation)), ()


def _layers(preparation: Preparation | None) -> dict[str, str]:
    """Return the layer and the label that the training rows have of AnnData, where they are set."""
    found = {n: getattr(preparation, n, None) for n in ("layer", "label")}
    return {name: value for name, value in found.items() if value is not None}


def _opened(name: str | Path, preparation: Preparation) -> Data:
    """Open data with grey levels left as they are, and tables as the sequences of their rows."""
    holed = {"missing": "integrate"} if preparation.fill is not None and is_file(name) else {}
    base = str(name).partition(":")[0]
    fixed = base in SETS and SETS[base].binarise == "none"
    binarise = "auto" if fixed else "none"
    steps = steps_option(name, preparation.sequence)
    layers = _layers(preparation) if is_h5ad(name) else {}
    return Data.open(name, binarise=binarise, **steps, **holed, **layers)


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
