"""Trained runs that a command is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from priory.cli.data_source import Source
from priory.cli.grammar import Request
from priory.data import Data
from priory.inference import Run, load
from priory.inference.checkpoints.folders import CONFIG, read_config
from priory.inference.checkpoints.missing_data import opened
from priory.recipes import pair_class
from priory.registry import registered
from priory.serialisation import from_config
from priory.signatures import Option, options_of

RUN = ("RUN", "the folder of a run, as priory fit has written it")


def pair_option() -> dict[str, Option]:
    """Return the option that names a pair of the user's own."""
    return {"pair": Option("pair", str, None, "file.py:Class, for a run of a pair of your own")}


def is_run(folder: str) -> bool:
    """Return whether a folder holds a run."""
    return (Path(folder) / CONFIG).is_file()


def check_run(folder: str) -> None:
    """Raise a ValueError unless a folder holds a run."""
    if not is_run(folder):
        raise ValueError(f"{folder} holds no run: there is no {CONFIG} in it")


def open_run(request: Request) -> Run:
    """Read a run back, with a pair and data of the user's own where they are named.

    Args:
        request: whose first argument is the run's folder.

    Raises:
        Errors: if anything is wrong with the request, or there is no run.
    """
    if request.name is None:
        request.errors.found.append("the folder of a run is needed first")
    else:
        request.errors.attempt(check_run, request.name)
    folder = request.name or ""
    pair, data = parts_of(folder, request)
    return load(folder, pair=pair, data=data)


def parts_of(folder: str, request: Request) -> tuple[Any, Data]:
    """Return the pair, not trained yet, and the data of a run, or those that are named instead.

    Args:
        folder: the run's.
        request: which may name others.

    Raises:
        Errors: if anything is wrong with the request.
        ValueError: if the run's own cannot be rebuilt.
    """
    texts, errors = request.texts, request.errors
    source = Source(texts.get("data", "digits"), texts, errors)
    family = None
    if "pair" in texts:
        path, _, name = texts["pair"].partition(".py")
        family = errors.attempt(pair_class, path + ".py", name.removeprefix(":") or None)
    errors.check()
    config = read_config(Path(folder))
    stored = config["pair"]
    if family is not None:
        arguments = {k: from_config(v) for k, v in stored.items() if k in options_of(family)}
        pair = family(**arguments)
    elif not _is_known(str(stored.get("class", "priory."))):
        raise ValueError(
            f"the run's pair is {stored['class']}, which is no part of Priory: name the file that "
            "has it, --pair path/to/file.py:Class"
        )
    else:
        pair = from_config(stored)
    own = config["data"]
    return pair, source.open(own.get("sequence")) if "data" in texts else opened(config)


def _is_known(path: str) -> bool:
    """Return whether a class is Priory's, or registered, so that a run of it is read back."""
    return path.startswith("priory.") or registered(path) is not None
