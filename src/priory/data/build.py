"""From arrays to splits: partition, convert, binarise, standardise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.class_names import UNKNOWN, encode
from priory.data.columns import Arrays, arrange, as_tensor, blocks, digest
from priory.data.mapped import Mapped
from priory.data.missing import SEEN, filled, moments, share_missing
from priory.data.partition import PARTS, gather, partition
from priory.data.pixels import binarise_once
from priory.data.preparation import Preparation
from priory.data.split import LABELLED, WEIGHT, Column, Split
from priory.data.steps import LENGTH, blank, counted, is_padded
from priory.data.units import centres, in_units, standards


@dataclass(frozen=True)
class Built:
    """What `build` makes: three splits, and what it did to the columns."""

    splits: dict[str, Split]
    notes: tuple[str, ...]
    preparation: Preparation


def build(
    parts: dict[str, Arrays],
    *,
    binarise: str,
    standardise: bool,
    classes: tuple[str, ...] = (),
) -> Built:
    """Turn the arrays of the three parts into splits.

    Args:
        parts: columns of each part, all with the same names and shapes.
        binarise: "dynamic", "threshold" or "none".
        standardise: whether to shift and scale `x` by the training rows' mean and sd.
        classes: names of the classes where labels are their numbers already.

    Raises:
        ValueError: if `x` can't be binarised or standardised.
    """
    parts, classes = _with_labels(parts, classes)
    parts, fill = filled(parts) if SEEN in parts["train"] else (parts, None)
    columns: dict[str, dict[str, Column]] = {
        part: {n: as_tensor(a) for n, a in parts[part].items() if n != "x"} for part in PARTS
    }
    for part, own in columns.items():
        if WEIGHT in own:
            _check_weights(own[WEIGHT], part)
        own |= {n: c.bool() for n, c in own.items() if n == LABELLED and isinstance(c, Tensor)}
        own |= {n: c.bool() for n, c in own.items() if n == SEEN and isinstance(c, Tensor)}
    arrays: dict[str, Any] = {part: parts[part]["x"] for part in PARTS}
    arrays = {p: a if isinstance(a, Mapped) else arrange(a) for p, a in arrays.items()}
    notes = []
    pixels = _stored(arrays["train"]).dtype == np.uint8
    divisor = 1.0
    if pixels and any(_exceeds_one(_stored(array)) for array in arrays.values()):
        divisor = 255.0
        notes.append("0..255 scaled to [0, 1]")
    lengths = {p: parts[p][LENGTH] for p in PARTS} if is_padded(parts) else {}
    if lengths:
        notes.append(_steps_told(lengths))
    seen = None if fill is None else parts["train"][SEEN]
    units, note = _units(arrays["train"], divisor, lengths, seen, standardise, binarise)
    notes += [note] if note else []
    if fill is not None:
        notes.append(share_missing({part: parts[part][SEEN] for part in PARTS}))
    for part, array in arrays.items():
        columns[part]["x"] = _held(array, divisor, units, lengths.get(part))
    if isinstance(arrays["train"], Mapped):
        notes.append("mapped from its file")
    high = None if isinstance(arrays["train"], Mapped) else _extent(columns["train"]["x"])[1]
    if binarise != "none":
        _binarise(columns, binarise)
    splits = {
        part: Split(columns[part], dynamic=binarise == "dynamic" and part == "train", stream=stream)
        for stream, part in enumerate(PARTS)
    }
    preparation = Preparation(
        shape=splits["train"].shape,
        dtype=str(splits["train"].columns["x"].dtype).removeprefix("torch."),
        pixels=pixels,
        divisor=divisor,
        high=high,
        binarise=binarise,
        mean=None if units is None else tuple(units[0].reshape(-1).tolist()),
        scale=None if units is None else tuple(units[1].reshape(-1).tolist()),
        classes=classes,
        padded=bool(lengths),
        fill=None if fill is None else tuple(fill.reshape(-1).tolist()),
    )
    return Built(splits, tuple(notes), preparation)


def _units(
    x: Any,
    divisor: float,
    lengths: Mapping[str, NDArray[Any]],
    seen: NDArray[np.bool_] | None,
    standardise: bool,
    binarise: str,
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]] | None, str]:
    """Return what the features are centred and divided by, None for nothing, and a note of it."""
    if standardise:
        _check_standardise(x, binarise, bool(lengths))
    if standardise and seen is not None:
        return moments(x.astype(np.float64), seen), "standardised"
    if standardise:
        return standards(x, divisor), "standardised"
    found = _centres(x, lengths) if binarise == "none" else None
    if found is None:
        return None, ""
    return (found, np.ones_like(found)), "centred, as it lies far from zero"


def _held(array: Any, divisor: float, units: Any, length: NDArray[Any] | None) -> Column:
    """Return x as a split holds it, divided and in the units of the training rows."""
    if isinstance(array, Mapped):
        return Mapped(array.array, array.rows, divisor=divisor)
    if units is None:
        array = array if length is None else blank(array, length)
        return as_tensor(array, divisor=divisor, real=True)
    values = in_units(array, divisor, *units)
    return as_tensor(values if length is None else blank(values, length), real=True)


def _steps_told(lengths: Mapping[str, NDArray[Any]]) -> str:
    every = np.concatenate([*lengths.values()])
    low, high = int(every.min()), int(every.max())
    return f"sequences of {low} to {high} steps" if low < high else f"sequences of {low} steps"


def _centres(x: Any, lengths: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return what the features are centred by: those of sequences by the same at every step."""
    if not lengths or isinstance(x, Mapped):
        return centres(x)
    found = centres(x[counted(lengths["train"], x.shape[1])])
    return None if found is None else np.broadcast_to(found, x.shape[1:]).copy()


def _check_weights(weight: Column, part: str) -> None:
    """Raise a ValueError unless a column can be the weights of its rows."""
    if not isinstance(weight, Tensor) or weight.dim() != 1 or weight.is_complex():
        shape = tuple(getattr(weight, "shape", ()))
        raise ValueError(
            f"the column {WEIGHT!r} holds one weight for each row, (rows,), got {shape}; call a "
            "column of another meaning by another name"
        )
    if len(weight) and (bool((weight < 0).any()) or not bool(weight.sum() > 0)):
        raise ValueError(
            f"the weights of the {part} rows must not be negative, and not all be 0; got "
            f"{float(weight.min()):g} to {float(weight.max()):g}"
        )


def _with_labels(
    parts: dict[str, Arrays], classes: tuple[str, ...]
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Give numbers to labels that may be seen; others, whatever stands there, become unknown."""
    names = parts["train"].keys()
    if LABELLED in names and "y" not in names:
        raise ValueError("a column 'labelled' needs labels, and the data have no column 'y'")
    if "y" not in names:
        return parts, ()
    rows = [len(parts[part]["y"]) for part in PARTS]
    seen = None
    if LABELLED in names:
        seen = np.concatenate([_truths(parts[part][LABELLED]) for part in PARTS])
    labels = np.concatenate([parts[part]["y"] for part in PARTS])
    if classes:
        numbers = labels.astype(np.int64)
    else:
        numbers, classes = encode(labels, seen)
    known = numbers != UNKNOWN
    ends = np.cumsum(rows)[:-1]
    found = zip(PARTS, np.split(numbers, ends), np.split(known, ends), strict=True)
    blind = LABELLED in names or not known.all()
    return {
        part: {**parts[part], "y": own} | ({LABELLED: mark} if blind else {})
        for part, own, mark in found
    }, classes


def _truths(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a column of truths.

    Raises:
        ValueError: if it is none.
    """
    if column.ndim != 1 or not np.isin(column, (0, 1)).all():
        raise ValueError(
            "'labelled' must be a number of rows, or True or False for each row, of shape (rows,); "
            f"got {column.dtype} of shape {column.shape}"
        )
    return column.astype(bool)


def build_own(
    columns: Mapping[str, object], options: dict[str, Any], sha256: str | None
) -> tuple[Built, str]:
    """Turn the user's own columns into splits.

    Args:
        columns: arrays by name, as `gather` takes them.
        options: checked by `check_options`.
        sha256: digest that the columns must have, if there is one.

    Returns:
        The splits, and the digest.

    Raises:
        ValueError: if the columns are faulty, or have another digest.
    """
    parts = gather(columns)
    found = digest({f"{part}/{c}": a for part in PARTS for c, a in parts[part].items()})
    if sha256 not in (None, found):
        raise ValueError(
            f"the content has changed: its digest is {found}, expected {sha256}; "
            "restore the file, or leave out sha256 to take it as it is"
        )
    parts = partition(parts, options["valid"], options["test"], options["seed"])
    return build(parts, binarise=options["binarise"], standardise=options["standardise"]), found


def sent(splits: Mapping[str, Split], device: torch.device | str) -> dict[str, Split]:
    """Return splits on a device, the smallest first; a warning names each that is streamed there.

    Args:
        splits: by part.
        device: where they are wanted.
    """
    moved = {}
    for part in sorted(splits, key=lambda part: splits[part].nbytes):
        split = moved[part] = splits[part].to(device)
        if split.streamed and split.device.type == "cuda":
            told = f"the {part} rows, {split.nbytes / 1e9:.1f} GB, are streamed to {device}"
            warnings.warn(told, stacklevel=3)
    return moved


def _stored(array: Any) -> NDArray[Any]:
    found: NDArray[Any] = array.array if isinstance(array, Mapped) else array
    return found


def _exceeds_one(array: NDArray[Any]) -> bool:
    return any(block.max(initial=0) > 1 for _, block in blocks(array))


def _check_standardise(x: Any, binarise: str, padded: bool) -> None:
    if binarise != "none":
        raise ValueError(f"standardise=True and binarise={binarise!r} exclude each other")
    if isinstance(x, Mapped):
        raise ValueError(
            "standardise=True needs x in memory, and it is mapped from its file; standardise it "
            "before it is saved, or pass mapped=False"
        )
    if padded:
        raise ValueError(
            "standardise=True is for tables, and a column 'length' says that the rows are "
            "sequences; pairs for sequences work in their own units: leave it out"
        )
    if x.ndim != 2:
        raise ValueError(
            f"standardise=True is for tables, x of shape (rows, features), got {x.shape}"
        )


def _binarise(columns: dict[str, dict[str, Column]], binarise: str) -> None:
    for stream, part in enumerate(PARTS):
        x = columns[part]["x"]
        if not len(x):
            continue
        low, high = _extent(x)
        if low < 0 or high > 1:
            raise ValueError(
                f"binarise={binarise!r} needs x in [0, 1], got [{low:g}, {high:g}] in the {part} "
                "rows; scale x, pass pixels as uint8, or use binarise='none'"
            )
        if isinstance(x, Mapped):
            x.threshold = binarise == "threshold"
        elif binarise == "threshold":
            columns[part]["x"] = (x > 0.5).to(x.dtype)
        elif part != "train":
            columns[part]["x"] = binarise_once(x, stream)


def _extent(x: Column) -> tuple[float, float]:
    if not isinstance(x, Mapped):
        return float(x.min()), float(x.max())
    ends = [(block.min(), block.max()) for _, block in blocks(x.array)]
    return float(min(ends)[0]) / x.divisor, float(max(high for _, high in ends)) / x.divisor
