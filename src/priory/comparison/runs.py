"""Runs that are trained already, judged alike and put side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.data import Data
from priory.evaluation import evaluate
from priory.inference import Run, load
from priory.signatures import Collector

if TYPE_CHECKING:
    from priory.evaluation import Comparison

Given = Run | str | PathLike[str]


def compare_runs(
    runs: Sequence[Given] | Mapping[str, Given],
    data: Data | None = None,
    **options: Any,
) -> Comparison:
    """Judge trained runs by the same measures on the same rows, and put them side by side.

    Folders that differ in a last `-seed0`, `-seed1`, ... alone are seeds of one label. Differences
    are taken row by row, so that what makes a row hard for all models does not blur them.

    Args:
        runs: folders, or runs; a mapping names them, else folders are called by their names.
        data: what to judge all of them on; each run's own if `None`, which must be the same.
        options: of `evaluate`, the same for all.

    Raises:
        Errors: if a run cannot be read, naming every one.
        ValueError: if there are no runs, or they are judged on different rows.

    Example:
        >>> table = compare_runs(["runs/normal", "runs/vamp"], metrics=["nll"], particles=5)
        >>> [entry.label for entry in table.entries]
        ['normal', 'vamp']
    """
    from priory.evaluation import Entry, comparison_table

    errors = Collector()
    named = _named(runs)
    if not named:
        errors.found.append("a comparison needs at least one run, got none")
    opened = {name: errors.attempt(_open, given, data) for name, given in named.items()}
    errors.check()
    entries = []
    for name, run in opened.items():
        assert run is not None  # noqa: S101
        label, seed = _label(name)
        report = evaluate(run, data, **options)
        number = run.config.get("seed", 0) if seed is None else seed
        entries.append(Entry(label, int(number or 0), report, run.seconds))
    return comparison_table(entries)


def _named(runs: Sequence[Given] | Mapping[str, Given]) -> dict[str, Given]:
    """Return runs by name: of folders of one name, the path distinguishes them."""
    if isinstance(runs, Mapping):
        return dict(runs)
    given = [runs] if isinstance(runs, str | PathLike | Run) else list(runs)
    folders = [None if isinstance(run, Run) else Path(run) for run in given]
    names = [f"run {n}" if f is None else f.resolve().name for n, f in enumerate(folders, 1)]
    found: dict[str, Given] = {}
    for run, folder, name in zip(given, folders, names, strict=True):
        found[str(folder) if names.count(name) > 1 and folder is not None else name] = run
    return found


def _open(run: Given, data: Data | None) -> Run:
    try:
        return run if isinstance(run, Run) else load(run, data=data)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error


def _label(name: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.+?)-seed(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)
