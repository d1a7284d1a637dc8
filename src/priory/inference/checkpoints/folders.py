"""A run's folder: what its files are called, what they hold, and whether one may be written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import Tensor

from priory.inference.checkpoints.checkpoint import SCHEMA, check_schema, newest
from priory.inference.checkpoints.disk import MANIFEST, Damaged, read, read_checked, read_json
from priory.inference.checkpoints.lock import LOCK
from priory.inference.checkpoints.weights import decode, encode

CONFIG, HISTORY, WEIGHTS = "config.yaml", "history.json", "weights.safetensors"
CHECKPOINTS, SNAPSHOTS = "checkpoints", "snapshots.safetensors"
_KEYS = {"schema", "pair", "objective", "data", "shapes", "dtype", "critics", "fit"}

Resume = bool | Literal["auto"]
Parts = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Tensor]]


def run_files(
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    snapshots: Mapping[int, Tensor] | None = None,
) -> dict[str, bytes]:
    """Return the contents of a finished run's files by name.

    Args:
        config: from which the run can be rebuilt.
        history: its rows.
        tensors: what it has trained, by name.
        snapshots: samples by the step at which they were drawn; no file if there are none.
    """
    text = yaml.safe_dump({"schema": SCHEMA, **config}, sort_keys=False)
    lines = json.dumps(history, indent=1)
    files = {CONFIG: text.encode(), HISTORY: lines.encode(), WEIGHTS: encode(tensors)}
    return files | ({SNAPSHOTS: snapshots_file(snapshots)} if snapshots else {})


def snapshots_file(snapshots: Mapping[int, Tensor]) -> bytes:
    """Return the content of the file of snapshots.

    Args:
        snapshots: samples by step.
    """
    return encode({f"step-{step:08}": x for step, x in sorted(snapshots.items())})


def read_snapshots(folder: Path) -> dict[int, Tensor]:
    """Return a run's snapshots, samples by step; none if it took none.

    Raises:
        Damaged: naming the file.
    """
    path = folder / SNAPSHOTS
    if not path.is_file():
        return {}
    finished = (folder / MANIFEST).is_file()
    content = read_checked(folder, (SNAPSHOTS,))[SNAPSHOTS] if finished else read(path)
    found = decode(path, content)
    try:
        return {int(name.removeprefix("step-")): x for name, x in sorted(found.items())}
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def read_run(folder: Path) -> Parts:
    """Return configuration, history and tensors of a finished run, else of its newest checkpoint.

    Raises:
        FileNotFoundError: if there is neither.
        ValueError: naming the file that is damaged, or of another schema.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {CONFIG} in it")
    if (folder / MANIFEST).is_file():
        return read_finished(folder)
    config = read_config(folder)
    found = newest(folder / CHECKPOINTS)
    if found is None:
        raise FileNotFoundError(f"{folder} holds a run without weights: no checkpoint is in it yet")
    return config, found.state["history"], found.weights


def read_finished(folder: Path) -> Parts:
    """Return configuration, history and tensors of a finished run, compared with its manifest.

    Raises:
        ValueError: naming the file that is damaged, or of another schema.
    """
    config = read_config(folder)
    files = read_checked(folder, (CONFIG, HISTORY, WEIGHTS))
    history = read_json(folder / HISTORY, files[HISTORY], list)
    return config, history, decode(folder / WEIGHTS, files[WEIGHTS])


def read_config(folder: Path) -> dict[str, Any]:
    """Return a run's configuration. Builds plain values only.

    Raises:
        ValueError: naming the file, if it is damaged or of another schema.
    """
    path = folder / CONFIG
    try:
        config = yaml.safe_load(read(path))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise Damaged(f"{path} is damaged: it holds no names with values")
    check_schema(path, config)
    if missing := sorted(_KEYS - {*config}):
        raise Damaged(f"{path} is damaged: it has no entry for {', '.join(missing)}")
    return {k: v for k, v in config.items() if k != "schema"}


def check_folder(folder: Path, *, resume: Resume, overwrite: bool) -> None:
    """Raise unless a run may be written into a folder.

    Args:
        folder: the run's.
        resume: whether a run that is there goes on.
        overwrite: whether it is removed.

    Raises:
        ValueError: if both are asked for.
        OSError: if it holds anything but a run, or a run and none of the two is asked for, or no
            run that could be resumed.
    """
    if resume and overwrite:
        raise ValueError("give resume or overwrite, not both")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, not a folder")
    content = {p.name for p in folder.iterdir()} - {LOCK} if folder.exists() else set()
    content = {name for name in content if not name.endswith(".part")}
    if content and CONFIG not in content:
        raise FileExistsError(f"{folder} holds other things than a run; choose another")
    if content and not resume and not overwrite:
        raise FileExistsError(
            f"{folder} has a run; pass overwrite=True to replace it, resume=True to fit to go on "
            "with it, or choose another"
        )
    if resume is True and not {CHECKPOINTS, MANIFEST} & content:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint to resume from; begin without resume, or with 'auto'"
        )
