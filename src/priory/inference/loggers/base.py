"""The contract of a logger: a callback that writes a training's numbers somewhere, each once."""

from __future__ import annotations

import json
import math
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from priory.inference.callback import Callback, Training
from priory.inference.checkpoints.disk import Damaged, read_json, write_file

LOGS = "logs.json"  # in a run's folder: where each of its logs is
Status = Literal["finished", "failed", "stopped"]

_SHOWN = ("pair", "objective", "data", "fit")  # of a run's configuration
_COUNTS = ("epoch", "step")  # of a row, at which the others hold


class Logger(Callback):
    """Writes the numbers of each row of the history, and the options as hyperparameters.

    Subclasses set `name` and write `open`, `last`, `write` and `close`. A run that goes on by
    `resume` goes on in the same log: its folder's `logs.json` says where that is, and what the log
    has already is not written again; rows from before the log was asked for are.

    Args:
        where: Where to write; what that means is the subclass's.
        run: What the run is called there; its folder's name if `None`.
    """

    name: str
    needs_folder = False
    """Whether it writes into the run's folder, unless it is given where."""
    text_whole = True
    """Whether a text's colons belong to `where`, which may be an address."""

    def __init__(self, where: str | None = None, run: str | None = None) -> None:
        self.where = where
        self.run = run
        self._last = -1

    @abstractmethod
    def open(
        self, place: str | None, run: str, folder: Path | None, options: Mapping[str, Any]
    ) -> str:
        """Begin a log, or go on with one; return its place, by which it is found again.

        Args:
            place: Of the log to go on with, as it was returned; a new one if `None`.
            run: What the run is called.
            folder: The run's; `None` if it has none.
            options: The run's, flat, for a new log.
        """

    @abstractmethod
    def last(self) -> int:
        """Return the last step that the log has, -1 if it has none."""

    @abstractmethod
    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write numbers.

        Args:
            step: At which they hold.
            figures: By name; all are finite.
        """

    @abstractmethod
    def close(self, status: Status) -> None:
        """End the log, for now.

        Args:
            status: How the run has ended.
        """

    def home(self) -> str:
        """Return where it writes, so that it is found from any working folder; "" for its own."""
        return self.where or ""

    def check(self, folder: str | os.PathLike[str] | None) -> None:
        """Raise a ValueError unless it knows where to write.

        Args:
            folder: The run's; `None` if it has none.
        """
        if self.needs_folder and self.where is None and folder is None:
            raise ValueError(
                f"{self.name} writes into the run's folder, and the run has none: say where, "
                f"log='{self.name}:FOLDER' (--log {self.name}:FOLDER), or give the run a folder"
            )

    def begin(self, training: Training) -> bool:
        """Open the log, and write the rows that it lacks."""
        own = training.options.folder
        folder = None if own is None else Path(own)
        known = places(folder) if folder is not None else {}
        key, config = f"{self.name}:{self.home()}", training.config
        title = self.run or (_title(training) if folder is None else folder.name)
        options = flat({k: config[k] for k in _SHOWN if k in config})
        place = self.open(known.get(key), title, folder, options)
        if folder is not None and known.get(key) != place:
            text = json.dumps({**known, key: place}, indent=1)
            write_file(folder / LOGS, text.encode())
        self._last = self.last() if key in known else -1
        for row in training.history:
            self._add(row)
        return False

    def after_epoch(self, training: Training) -> None:
        """Write the last row."""
        self._add(training.history[-1])

    def finish(self, training: Training) -> None:  # noqa: ARG002
        """End the log of a finished run."""
        self.close("finished")

    def fail(self, training: Training, error: BaseException) -> None:  # noqa: ARG002
        """End the log of a run that failed, or was stopped."""
        self.close("failed" if isinstance(error, Exception) else "stopped")

    def _add(self, row: Mapping[str, Any]) -> None:
        """Write a row, unless the log has it."""
        if row["step"] > self._last:
            self._last = row["step"]
            self.write(row["step"], numbers(row))


def places(folder: Path) -> dict[str, str]:
    """Return the places of a run's logs, by the loggers' names and where they write.

    Raises:
        Damaged: The file that has them is no such file.
    """
    path = folder / LOGS
    if not path.is_file():
        return {}
    found = read_json(path, path.read_bytes())
    if not all(isinstance(place, str) for place in found.values()):
        raise Damaged(f"{path} is damaged: it has something else than places of logs")
    return dict(found)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a row of the history, those of a look by dotted names.

    Example:
        >>> numbers({"epoch": 1, "step": 5, "loss": 2.0, "bound": None, "watch": {"spread": 0.5}})
        {'loss': 2.0, 'watch.spread': 0.5}
    """
    found = {}
    for name, value in _leaves({k: v for k, v in row.items() if k not in _COUNTS}, ""):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value):
            found[name] = float(value)
    return found


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values by dotted names, without those that are `None`.

    Example:
        >>> flat({"pair": {"class": "priory.models.VAE", "latent": 2, "posterior": None}})
        {'pair.class': 'priory.models.VAE', 'pair.latent': 2}
    """
    return {name: value for name, value in _leaves(config, "") if value is not None}


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        items = [(str(n), v) for n, v in enumerate(value)]
    else:
        yield name, ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{name}.{key}" if name else key)


def _title(training: Training) -> str:
    """Return what a run without a folder is called."""
    data = training.config.get("data", {}).get("name", "data")
    return f"{type(training.pair).__name__}-{Path(str(data)).stem}-seed{training.options.seed}"
