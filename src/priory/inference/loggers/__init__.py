"""Loggers: where the numbers of a training are written beside the run's own folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from priory.inference.loggers.base import Logger, places
from priory.inference.loggers.mlflow import MLflow as MLflow
from priory.inference.loggers.tensorboard import TensorBoard as TensorBoard
from priory.lookup import named
from priory.registry import registry

LOGGERS: dict[str, type[Logger]] = registry(Logger, globals())

__all__ = ["LOGGERS", "Logger", "MLflow", "TensorBoard", "add_figures", "as_loggers"]


def as_loggers(given: Any) -> list[Logger]:
    """Return loggers, of which some may be given by name, with where they write after a colon.

    Args:
        given: a logger or a name, or several of these.

    Raises:
        ValueError: there is no such logger, or what is given is none.

    Example:
        >>> [log.where for log in as_loggers("tensorboard:logs")]
        ['logs']
    """
    several = isinstance(given, Sequence) and not isinstance(given, str)
    found = []
    for one in given if several else [given]:
        if isinstance(one, str):
            name, _, where = one.partition(":")
            found.append(named("logger", name, LOGGERS)(where or None))
        elif isinstance(one, Logger):
            found.append(one)
        else:
            raise ValueError(
                "log must be loggers or their names, for instance 'tensorboard:logs', got "
                f"{one!r}; other callbacks are given as callbacks=[...]"
            )
    return found


def add_figures(folder: Path, step: int, figures: Mapping[str, float]) -> list[str]:
    """Add numbers to the logs that a run was trained into, an evaluation's say.

    Args:
        folder: the run's.
        step: at which they hold.
        figures: by name.

    Returns:
        What was written to, by the loggers' names and where they write.

    Raises:
        ValueError: a logger is not known any more.
        ImportError: its extra is not installed.
    """
    written = []
    for key, place in places(folder).items():
        name, _, where = key.partition(":")
        log = named("logger", name, LOGGERS)(where or None)
        log.open(place, folder.name, folder, {})
        log.write(step, figures)
        log.close("finished")
        written.append(key.rstrip(":"))
    return written
