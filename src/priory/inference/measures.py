"""Metrics of the validation rows at the ends of a run's stages, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from priory.data import Data
from priory.inference.callback import Callback, Training
from priory.inference.randomness import own_randomness
from priory.inference.selection import NoValue
from priory.inference.stage import Stage

_METRIC = "priory.evaluation:ByMetric"  # imported when used: judging stands on training


class Measured(Callback):
    """Takes the stages' metrics at the end of a run, beside those at the ends of its stages.

    Args:
        stages: of the run.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.metrics = list(dict.fromkeys(name for stage in stages for name in stage.metrics))

    def finish(self, training: Training) -> None:
        """Write them into the last row."""
        seed = training.options.seed
        training.history[-1] |= measured(self.metrics, training.pair, training.data, seed)


def measured(metrics: Sequence[str], pair: Any, data: Data, seed: int) -> dict[str, float | None]:
    """Return metrics of the validation rows by name, None where one has no value.

    Args:
        metrics: their names.
        pair: what is judged.
        data: of which the validation rows are looked at.
        seed: seed of all draws.
    """
    found: dict[str, float | None] = {}
    for name in metrics:
        criterion = resolve_name(_METRIC)(name)
        try:
            with own_randomness(data.device, seed):
                found[name] = criterion(pair, data, seed) if len(data.valid) else None
        except NoValue:  # without labels, say
            found[name] = None
    return found
