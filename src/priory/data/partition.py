"""From the user's columns to three parts: options and columns checked, rows drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from priory.data.columns import Arrays, as_array
from priory.data.mapped import Mapped, check_room, read_rows
from priory.lookup import named

PARTS = ("train", "valid", "test")
Binarise = Literal["auto", "dynamic", "threshold", "none"]
BINARISE = {
    "auto": "dynamic for named greyscale images, else none",
    "dynamic": "training pixels are drawn anew for every batch, others once and for all",
    "threshold": "ones above 0.5",
    "none": "values as they are",
}


def whole(name: str, value: object, least: int = 0) -> int:
    """Return the value as an int.

    Raises:
        ValueError: if it is no integer, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer, {least} or more, got {value!r}")
    return int(value)


def few(labelled: object) -> int | None:
    """Return the number of rows whose label may be seen, checked; None for all.

    Raises:
        ValueError: if it is no integer, or none at all.
    """
    return None if labelled is None else whole("labelled", labelled, 1)


def check_options(
    valid: float,
    test: float,
    binarise: str,
    standardise: bool,
    seed: int,
    labelled: int | None = None,
    sequence: str | None = None,
    missing: str = "refuse",
) -> dict[str, Any]:
    """Return the options for the user's own data, checked as far as they can be without it.

    Raises:
        ValueError: if one is wrong.
    """
    named("binarise", binarise, BINARISE)
    if not isinstance(standardise, bool):
        raise ValueError(f"standardise must be True or False, got {standardise!r}")
    if sequence is not None and not (isinstance(sequence, str) and sequence.strip()):
        raise ValueError(f"sequence must be the name of a column, got {sequence!r}")
    if sequence is not None and standardise:
        raise ValueError(
            "standardise=True is for tables whose rows are data, and sequence makes steps of them; "
            "pairs for sequences work in the columns' own units: leave it out"
        )
    named("missing", missing, dict.fromkeys(("refuse", "integrate")))
    if missing == "integrate" and (sequence is not None or binarise not in ("auto", "none")):
        other = f"binarise={binarise!r}" if sequence is None else f"sequence={sequence!r}"
        raise ValueError(f"missing='integrate' and {other} exclude each other")
    return {
        "valid": _share("valid", valid),
        "test": _share("test", test),
        "binarise": binarise,
        "standardise": standardise,
        "seed": whole("seed", seed),
        **({} if labelled is None else {"labelled": few(labelled)}),
        **({} if sequence is None else {"sequence": sequence}),
        **({} if missing == "refuse" else {"missing": missing}),
    }


def gather(columns: Mapping[str, object]) -> dict[str, Arrays]:
    """Check the user's columns and sort them into parts by their endings `_valid` and `_test`.

    Raises:
        ValueError: if a part lacks a column, or lengths or shapes disagree.
    """
    parts: dict[str, Arrays] = {part: {} for part in PARTS}
    for given, values in columns.items():
        part = next((p for p in PARTS if given.endswith(f"_{p}")), "train")
        name = given.removesuffix(f"_{part}")
        if values is None:
            continue
        if name == "index":
            raise ValueError("the name 'index' is taken by the row numbers; rename that column")
        array = as_array(given, values)
        if array.dtype.kind in "US" and name != "y":
            raise ValueError(f"column {given!r} holds text; only labels 'y' may")
        parts[part][name] = array
    train = parts["train"]
    if "x" not in train:
        raise ValueError(f"a column 'x' is needed, got {sorted(columns)}")
    for part, arrays in parts.items():
        if arrays and set(arrays) != set(train):
            lacking = [f"{name}_{part}" for name in sorted(set(train) - set(arrays))]
            over = [f"{name}_{part}" for name in sorted(set(arrays) - set(train))]
            raise ValueError(
                f"the {part} rows must have the training rows' columns {sorted(train)}: "
                f"missing {lacking}, not in the training rows {over}"
            )
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of the {part} rows differ in length: {lengths}")
        for name, array in arrays.items():
            if array.shape[1:] != train[name].shape[1:]:
                raise ValueError(
                    f"{name}_{part} has rows of shape {array.shape[1:]}, expected "
                    f"{train[name].shape[1:]} as in the training rows"
                )
        if arrays and (arrays["x"].dtype == np.uint8) != (train["x"].dtype == np.uint8):
            raise ValueError(
                f"x_{part} has dtype {arrays['x'].dtype} and x {train['x'].dtype}: uint8 is taken "
                "as pixels 0..255, other numbers as they are; give both in one dtype"
            )
    return parts


def partition(parts: dict[str, Arrays], valid: float, test: float, seed: int) -> dict[str, Arrays]:
    """Take validation and test rows, where not given, from the training rows at random.

    Args:
        parts: columns of each part; an empty part is to be filled.
        valid: validation rows, a number or a share of the rows that were given for training.
        test: test rows, likewise.
        seed: seed of the shuffle.

    Raises:
        ValueError: if a share is no row at all, or no row is left to train on.
    """
    train = parts["train"]
    rows = len(train["x"])
    wanted = {"valid": valid, "test": test}
    counts = {
        part: 0 if parts[part] else _count(part, value, rows) for part, value in wanted.items()
    }
    left = rows - sum(counts.values())
    if left < 1:
        raise ValueError(
            f"no row is left to train on: {rows} rows, of which {counts['valid']} for validation "
            f"and {counts['test']} for the test; give more rows or smaller valid and test"
        )
    shuffle = any(counts.values())
    order = np.random.default_rng(seed).permutation(rows) if shuffle else np.arange(rows)
    # The training rows keep the order in which they were given.
    chosen = {
        "train": np.sort(order[:left]),
        "valid": order[left : left + counts["valid"]],
        "test": order[left + counts["valid"] :],
    }
    return {
        part: parts[part]
        if parts[part] and part != "train"
        else {name: _select(name, part, array, chosen[part]) for name, array in train.items()}
        for part in PARTS
    }


def _select(name: str, part: str, array: NDArray[Any], rows: NDArray[np.int64]) -> Any:
    """Take rows of a column; the training rows of a mapped file stay there."""
    if name != "x" or not isinstance(array, np.memmap):
        return array[rows]
    if part == "train":
        return Mapped(array, None if len(rows) == len(array) else rows)
    check_room(part, array.shape[1:], len(rows))
    return read_rows(array, rows)


def _share(name: str, value: object) -> int | float:
    """Return a number of rows as an int, or a share of them as a float."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0:
        return int(value)
    if not isinstance(value, float | np.floating) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a share in [0, 1) or a number of rows, got {value!r}")
    return float(value)


def _count(name: str, value: float, rows: int) -> int:
    if isinstance(value, int):
        return value
    count = round(value * rows)
    if value > 0 and count == 0:
        raise ValueError(
            f"{name}={value} of {rows} rows is no row; give more rows, a number of rows, or 0"
        )
    return count
