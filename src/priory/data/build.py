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

from priory.data.columns import Arrays, arrange, as_tensor, blocks, digest, encode
from priory.data.mapped import Mapped
from priory.data.partition import PARTS, gather, partition
from priory.data.pixels import binarise_once
from priory.data.split import Column, Split


@dataclass(frozen=True)
class Built:
    """What `build` makes: three splits, and what it did to the columns."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    mean: Tensor | None
    scale: Tensor | None


def build(parts: dict[str, Arrays], *, binarise: str, standardise: bool) -> Built:
    """Turn the arrays of the three parts into splits.

    Args:
        parts: columns of each part, all with the same names and shapes.
        binarise: "dynamic", "threshold" or "none".
        standardise: whether to shift and scale `x` by the training rows' mean and sd.

    Raises:
        ValueError: if `x` can't be binarised or standardised.
    """
    notes = []
    columns: dict[str, dict[str, Column]] = {part: {} for part in PARTS}
    classes: tuple[str, ...] = ()
    for name in parts["train"]:
        arrays: list[Any] = [parts[part][name] for part in PARTS]
        if name == "y":
            numbers, classes = encode(np.concatenate(arrays))
            ends = np.cumsum([len(array) for array in arrays])[:-1]
            arrays = list(np.split(numbers, ends))
        divisor = 1.0
        if name == "x":
            arrays = [a if isinstance(a, Mapped) else arrange(a) for a in arrays]
            byte = _stored(arrays[0]).dtype == np.uint8
            if byte and any(_exceeds_one(_stored(array)) for array in arrays):
                divisor = 255.0
                notes.append("0..255 scaled to [0, 1]")
        for part, array in zip(PARTS, arrays, strict=True):
            if isinstance(array, Mapped):
                columns[part][name] = Mapped(array.array, array.rows, divisor=divisor)
                notes.append("mapped from its file")
            else:
                columns[part][name] = as_tensor(array, divisor=divisor, real=name == "x")
    mean = scale = None
    if standardise:
        mean, scale = _standardise(columns, binarise)
        notes.append("standardised")
    if binarise != "none":
        _binarise(columns, binarise)
    splits = {
        part: Split(columns[part], dynamic=binarise == "dynamic" and part == "train", stream=stream)
        for stream, part in enumerate(PARTS)
    }
    return Built(splits, classes, tuple(notes), mean, scale)


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


def _standardise(columns: dict[str, dict[str, Column]], binarise: str) -> tuple[Tensor, Tensor]:
    x = columns["train"]["x"]
    if binarise != "none":
        raise ValueError(f"standardise=True and binarise={binarise!r} exclude each other")
    if isinstance(x, Mapped):
        raise ValueError(
            "standardise=True needs x in memory, and it is mapped from its file; standardise it "
            "before it is saved, or pass mapped=False"
        )
    if x.dim() != 2:
        raise ValueError(
            f"standardise=True is for tables, x of shape (rows, features), got {tuple(x.shape)}"
        )
    sd, mean = torch.std_mean(x, 0, correction=0)
    scale = torch.where(sd > 0, sd, torch.ones_like(sd))  # a constant feature is only shifted
    for part in PARTS:
        x = columns[part]["x"] = (columns[part]["x"][:] - mean) / scale
        if not x.isfinite().all():
            raise ValueError("standardise=True: x is too large for its mean and sd; scale it first")
    return mean, scale


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
