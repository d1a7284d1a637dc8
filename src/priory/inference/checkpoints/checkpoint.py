"""Checkpoints: a training run's whole state, as a folder that is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from priory.inference.checkpoints.disk import (
    Damaged,
    read_checked,
    read_json,
    remove_folder,
    write_folder,
)
from priory.inference.checkpoints.weights import decode, decode_state, encode, encode_state

SCHEMA = 2
"""Of run folders and checkpoints; another one is refused."""

_STATE, _TRAIN, _WEIGHTS = "state.json", "train.pt", "weights.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: its folder.
        state: plain values: where the run stands, its configuration, history and environment.
        train: optimisers, random generators and the like, by name.
        weights: the tensors trained, by name.
    """

    path: Path
    state: dict[str, Any]
    train: dict[str, Any]
    weights: dict[str, Tensor]


def write_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    train: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    keep: int = 2,
) -> Path:
    """Write a checkpoint named after its step, and remove the oldest beyond those to keep.

    Args:
        folder: of the checkpoints.
        state: plain values; `step` among them.
        train: tensors and plain values.
        weights: the tensors trained, by name.
        keep: how many stay.

    Raises:
        OSError: naming the file that cannot be written; the earlier checkpoints stand.
    """
    path = folder / f"step-{state['step']:08}"
    files = {
        _WEIGHTS: encode(weights),
        _TRAIN: encode_state(train),
        _STATE: json.dumps({"schema": SCHEMA, **state}, indent=1).encode(),
    }
    write_folder(path, files)
    for early in checkpoints(folder)[:-keep]:
        remove_folder(early)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest last."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, each file compared with the manifest. Runs no code that it might name.

    Raises:
        Damaged: naming the file.
        ValueError: if it is of another schema.
    """
    files = read_checked(path, (_STATE, _TRAIN, _WEIGHTS))
    state = read_json(path / _STATE, files[_STATE])
    check_schema(path / _STATE, state)
    train = decode_state(path / _TRAIN, files[_TRAIN])
    return Checkpoint(path, state, train, decode(path / _WEIGHTS, files[_WEIGHTS]))


def newest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, and warn of each that is not; None without any.

    Raises:
        Damaged: naming the files, if none is whole.
    """
    problems = []
    for path in reversed(checkpoints(folder)):
        try:
            found = read_checkpoint(path)
        except Damaged as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; falling back on {path}", stacklevel=2)
        return found
    if problems:
        raise Damaged("; ".join(problems) + "; no checkpoint is left to fall back on")
    return None


def set_aside(folder: Path, after: Path) -> None:
    """Rename the checkpoints that are newer than the one to go on from: they are damaged."""
    for path in checkpoints(folder):
        if path.name > after.name:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)


def check_schema(path: Path, found: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a file is of this version's schema."""
    if found.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {found.get('schema')}, and this version reads {SCHEMA}; use the "
            "version of Priory that wrote it"
        )
