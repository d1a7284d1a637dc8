"""Few labels: which training rows may show theirs, and an order that brings these more often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from priory.data.build import Built
from priory.data.class_names import UNKNOWN
from priory.data.columns import brief
from priory.data.split import LABELLED, Split


def with_labelled(built: Built, count: int | None, seed: int) -> Built:
    """Return splits with a column `labelled`: true for some training rows, and for all others'.

    As many rows of each class as can be, drawn at random. The labels of the other training rows
    become unknown.

    Args:
        built: the splits.
        count: training rows whose label may be seen; without it all stays as it is.
        seed: seed of the draw.

    Raises:
        ValueError: if there are no labels, fewer rows than `count`, or more classes.
    """
    if count is None:
        return built
    train = built.splits["train"].columns
    if "y" not in train:
        raise ValueError(f"labelled={count} needs labels, and the data have no column 'y'")
    labels = train["y"].cpu().numpy()
    known = np.flatnonzero(labels != UNKNOWN)
    classes = len(np.unique(labels[known]))
    if not classes <= count <= len(known):
        raise ValueError(
            f"labelled must be from {classes}, the number of classes, to {len(known)}, the number "
            f"of training rows with a label; got {count}"
        )
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.from_numpy(known[balanced(labels[known], seed)[:count]])] = True
    splits = {}
    for part, split in built.splits.items():
        y = split.columns["y"]
        seen = chosen.to(y.device) if part == "train" else y != UNKNOWN
        hidden = torch.where(seen, y, UNKNOWN)
        splits[part] = split.like({**split.columns, "y": hidden, LABELLED: seen}, split.device)
    return replace(built, splits=splits)


def balanced(labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Return shuffled row numbers such that every beginning has the classes in equal parts.

    Args:
        labels: labels of shape (rows,).
        seed: seed of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels[order] == label)
        turn[rows] = np.arange(len(rows))
    found: NDArray[np.int64] = order[np.argsort(turn, kind="stable")]
    return found


def summary(
    splits: Mapping[str, Split], classes: tuple[str, ...], binarise: str, notes: tuple[str, ...]
) -> str:
    """Return in one line: rows, shape, what was done to `x`, labels.

    Args:
        splits: by part.
        classes: names of the labels.
        binarise: "dynamic", "threshold" or "none".
        notes: what else was done.
    """
    rows = ", ".join(f"{len(split):,} {part}" for part, split in splits.items())
    train = splits["train"]
    x = [f"x {train.shape}", *notes]
    if binarise != "none":
        x.append("binarised dynamically" if train.dynamic else "binarised at 0.5")
    labels = f"; labels {brief(classes)}" if classes else ""
    if LABELLED in train.columns:
        labels += f", {int(train.columns[LABELLED].bool().sum()):,} of them seen in training"
    return f"{rows}; {', '.join(x)}{labels}"
