"""Trained runs that a command is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.cli.data_source import Source
from priory.cli.grammar import Request
from priory.data import Data
from priory.data.inputs import is_function
from priory.data.rows import is_file, rows_of_file
from priory.inference import Run, load
from priory.inference.checkpoints.folders import CONFIG, read_config
from priory.inference.checkpoints.missing_data import Absent, opened
from priory.inference.fit import pick_device
from priory.recipes import pair_class
from priory.recipes.find import in_file, object_in
from priory.registry import registered
from priory.serialisation import from_config
from priory.signatures import Option, options_of

RUN = ("RUN", "the folder of a run, as priory fit has written it")
_DEVICE = "cpu"


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
    _check_named(request)
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
    texts = request.texts
    source = Source(texts.get("data", "digits"), texts, request.errors)
    pair, config = _pair_of(folder, request)
    own = config["data"]
    return pair, source.open(own.get("sequence")) if "data" in texts else opened(config)


def open_rows(request: Request) -> tuple[Run, Any, tuple[str, ...]]:
    """Read a run back on the device that is named, and the rows that it is asked about.

    Args:
        request: of a command that has `row_options`; its first argument is the run's folder.

    Returns:
        The run; its rows, all of a file's in their order, or None for its own; and what the file
        calls them.

    Raises:
        Errors: if anything is wrong with the request, or there is no run.
        ValueError: if the run or the rows cannot be read.
    """
    texts, errors = request.texts, request.errors
    _check_named(request)
    name, names = texts.get("data"), texts.get("id")
    if names is not None and (name is None or in_file(name) or not is_file(name)):
        errors.found.append("id names the rows of a table; name that too: --data FILE")
    if name is not None:
        Source(name, {}, errors)  # whether it is there
    device = errors.attempt(pick_device, texts.get("device", _DEVICE))
    folder = request.name or ""
    pair, config = _pair_of(folder, request)
    run = load(folder, pair=pair, data=_own_data(config) if name is not None else opened(config))
    if device is not None and device.type != "cpu":
        if run.store.get("params"):
            raise ValueError(
                "the run keeps parameters by pyro.param alone, which stay on the CPU: leave "
                "--device out"
            )
        run.pair.to(device)
    if name is not None and (code := in_file(name)):
        made = object_in(*code.groups())
        return run, made() if is_function(made) else made, ()
    if name is None or not is_file(name):
        return run, name, ()
    return run, *rows_of_file(name, run.preparation, names)


def row_options() -> dict[str, Option]:
    """Return the options that say which rows a run is asked about, and where."""
    about = "the rows: a file, .csv, .npz, .npy, .parquet, .h5ad or a folder, all of it in its "
    about += "order, or path/to/file.py:NAME; or a named set; the run's own by default"
    names = "column of a table that names its rows and is no feature, written beside the results"
    return {
        "data": Option("data", str, None, about),
        "id": Option("id", str, None, names),
        "device": Option("device", str, _DEVICE, "any torch device; auto is CUDA if there is one"),
    }


def _own_data(config: Mapping[str, Any]) -> Data:
    """Open a run's own data, or what stands for them: they are not needed beside other rows."""
    try:
        return opened(config)
    except ValueError as error:
        return Absent(config, f"none to be read: {error}")


def _check_named(request: Request) -> None:
    """Take down why a request names no run."""
    if request.name is None:
        request.errors.found.append("the folder of a run is needed first")
    else:
        request.errors.attempt(check_run, request.name)


def _pair_of(folder: str, request: Request) -> tuple[Any, dict[str, Any]]:
    """Return the pair of a run, not trained yet, and the run's configuration."""
    texts, errors = request.texts, request.errors
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
    return pair, config


def _is_known(path: str) -> bool:
    """Return whether a class is Priory's, or registered, so that a run of it is read back."""
    return path.startswith("priory.") or registered(path) is not None
