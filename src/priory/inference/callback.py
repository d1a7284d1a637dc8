"""Callbacks of a training: what is called at its turns, the user's own behind a guard."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from priory.data import Data
from priory.inference.randomness import own_randomness
from priory.lookup import first_line


class Training(Protocol):
    """A training run, as a callback sees it; `Loop` is one.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on.
        svi: takes the steps; an `SVI`.
        total: steps in all.
        options: of `fit`; a `FitOptions`.
        history: a row for each epoch, those of earlier stages first.
        stage: this training's number among the run's, from 0.
        config: of the whole run, as plain values; empty if there are no callbacks.
    """

    pair: Any
    objective: Any
    data: Data
    svi: Any
    total: int
    options: Any
    history: list[dict[str, Any]]
    stage: int
    config: dict[str, Any]

    @property
    def snapshots(self) -> dict[int, Tensor]:
        """Samples by the step at which they were drawn."""

    def state(self) -> dict[str, Any]:
        """Return where the run stands, as plain values."""

    def train_state(self) -> dict[str, Any]:
        """Return what else a later step depends on."""

    def restore(self, state: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        """Go on from what `state` and `train_state` returned."""

    def saved(self, path: Path) -> None:
        """Let every callback know of a checkpoint."""

    def pause(self, seconds: float) -> None:
        """Leave time out of the run's seconds."""


class Callback:
    """Called by `fit` at the turns of a training; each method does nothing until it is overridden.

    `fit(..., callbacks=[...])` calls each on the main rank, after the run's own files are written.
    Training is the same to the bit with and without: a callback draws from a random state of its
    own, and its time is not the run's. One that fails before the first step stops the run; one that
    fails later is named in a warning and left out from there on, and the training goes on.

    Example:
        >>> class Steps(Callback):
        ...     def after_epoch(self, training):
        ...         print(training.history[-1]["step"])
        >>> _ = fit(VAE(latent=2), ELBO(), data, steps=2, callbacks=[Steps()])
        2
    """

    def begin(self, training: Training) -> bool | None:  # noqa: ARG002
        """Look on before the first step, or before the first one after a resume.

        Args:
            training: ready for its first step.

        Returns:
            Whether the run is finished already; the user's own callbacks have no say in it.
        """
        return False

    def after_step(self, training: Training) -> None:
        """Look on after a step.

        Args:
            training: with the step taken.
        """

    def after_snapshot(self, training: Training) -> None:
        """Look on after a snapshot of the samples.

        Args:
            training: with the snapshot among its own.
        """

    def after_epoch(self, training: Training) -> None:
        """Look on after an epoch.

        Args:
            training: with the epoch's row as the last of its history: step, loss, bound, ...
        """

    def after_best(self, training: Training) -> None:
        """Look on after an epoch whose weights are the best so far, by `best` or with patience.

        Args:
            training: with the epoch's row as the last of its history.
        """

    def after_checkpoint(self, training: Training, path: Path) -> None:
        """Look on after a checkpoint is written.

        Args:
            training: as it stands.
            path: the checkpoint's folder.
        """

    def finish(self, training: Training) -> None:
        """Look on at the end, when the pair has the weights that it is judged by.

        Args:
            training: the finished run.
        """

    def fail(self, training: Training, error: BaseException) -> None:
        """Look on when the training ends early, by an error, Ctrl-C or a signal.

        Args:
            training: as it stood.
            error: what ended it; it is raised afterwards.
        """


class Guarded(Callback):
    """Calls a callback of the user's: in a random state of its own, and by stages as one run.

    Args:
        callback: the user's.
        stages: of the run, before its own training.
    """

    def __init__(self, callback: Callback, stages: int) -> None:
        self.callback, self.stages = callback, stages
        self.name = type(callback).__name__
        self._begun = self._out = False

    def begin(self, training: Training) -> bool:
        """Call it before the first stage of this process.

        Raises:
            ValueError: if it fails; no step is taken yet.
        """
        if not self._begun:
            self._begun = True
            try:
                with _apart(training):
                    self.callback.begin(training)
            except Exception as error:
                self._out = True
                raise ValueError(
                    f"the callback {self.name} failed before the first step: {_said(error)}"
                ) from error
        return False

    def after_step(self, training: Training) -> None:
        """Call it, if it looks at steps."""
        if type(self.callback).after_step is not Callback.after_step:
            self._call("after_step", training)

    def after_snapshot(self, training: Training) -> None:
        """Call it."""
        self._call("after_snapshot", training)

    def after_epoch(self, training: Training) -> None:
        """Call it, and once more where the epoch's weights are the best so far."""
        self._call("after_epoch", training)
        if training.history[-1].get("best"):
            self._call("after_best", training)

    def after_checkpoint(self, training: Training, path: Path) -> None:
        """Call it."""
        self._call("after_checkpoint", training, path)

    def finish(self, training: Training) -> None:
        """Call it after the last stage."""
        if training.stage >= self.stages:
            self._call("finish", training)

    def fail(self, training: Training, error: BaseException) -> None:
        """Call it, if it has begun."""
        if self._begun:
            self._call("fail", training, error)

    def _call(self, turn: str, training: Training, *more: Any) -> None:
        """Call one of its methods; after an error warn once, and leave it out."""
        if self._out:
            return
        try:
            with _apart(training):
                getattr(self.callback, turn)(training, *more)
        except Exception as error:
            self._out = True
            warnings.warn(
                f"the callback {self.name} failed in {turn}: {_said(error)}; it is left out from "
                "here on, and the training goes on",
                stacklevel=2,
            )


@contextmanager
def _apart(training: Training) -> Iterator[None]:
    """Draw from a random state of its own, and take no time of the run's."""
    started = time.perf_counter()
    with own_randomness(training.data.device):
        yield
    training.pause(time.perf_counter() - started)


def _said(error: Exception) -> str:
    plain = isinstance(error, ValueError | OSError | ImportError)
    return first_line(error) if plain else f"{type(error).__name__}: {first_line(error)}"


class OnEpoch(Callback):
    """Hands each row of the history to a function.

    Args:
        function: is called with the row; nothing is done without it.
    """

    def __init__(self, function: Callable[[dict[str, Any]], object] | None) -> None:
        self.function = function

    def after_epoch(self, training: Training) -> None:
        """Call the function with the last row."""
        if self.function is not None:
            self.function(training.history[-1])
