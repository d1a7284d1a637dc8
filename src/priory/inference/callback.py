"""Callbacks of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from priory.data import Data
from priory.inference.options import FitOptions
from priory.inference.svi import SVI


class Training(Protocol):
    """A training run, as a callback sees it; `Loop` is one.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on.
        svi: takes the steps.
        total: steps in all.
        options: of `fit`.
        history: a row for each epoch, those of earlier stages first.
        stage: this training's number among the run's, from 0.
    """

    pair: Any
    objective: Any
    data: Data
    svi: SVI
    total: int
    options: FitOptions
    history: list[dict[str, Any]]
    stage: int

    @property
    def snapshots(self) -> dict[int, Tensor]:
        """Samples by the step at which they were drawn."""

    def state(self) -> dict[str, Any]:
        """Return where the run stands, as plain values."""

    def train_state(self) -> dict[str, Any]:
        """Return what else a later step depends on."""

    def restore(self, state: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        """Go on from what `state` and `train_state` returned."""


class Callback:
    """Called by the loop at its turns; each method does nothing until it is overridden."""

    def begin(self, training: Training) -> bool:  # noqa: ARG002
        """Return whether the run is finished already, before its first step.

        Args:
            training: ready for its first step.
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
            training: with the epoch's row as the last of its history.
        """

    def finish(self, training: Training) -> None:
        """Look on at the end, when the pair has the weights that it is judged by.

        Args:
            training: the finished run.
        """


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
