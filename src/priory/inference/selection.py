"""Which weights of a run are its best: a criterion, and the state of the search for its optimum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor

from priory.data import Data

_OWN = (
    "epoch",
    "step",
    "loss",
    "bound",
    "rate",
    "skipped",
    "seconds",
    "best",
    "watch",
    "warnings",
    "collapsed",
    "fallen",
    "stage",
)


class NoValue(ValueError):
    """A criterion has no value for this pair on these data; the message says why."""


class Criterion(ABC):
    """A number by which the weights of one training run are compared, on validation rows.

    Subclasses set `name`, the number's key in the history, and `better`, the direction in which it
    improves; `priory.evaluation.ByMetric` makes one of any metric.
    """

    name: str
    better: Literal["lower", "higher"]

    @abstractmethod
    def __call__(self, pair: Any, data: Data, seed: int) -> float:
        """Return the number; leave the pair, and the random state, as they were.

        Args:
            pair: what is trained, with the weights that are to be judged.
            data: of which the validation rows are looked at.
            seed: seed of all draws.

        Raises:
            NoValue: if there is none.
        """


class Selection:
    """The best weights so far, and for how many evaluations there have been no better ones.

    Args:
        criterion: what they are compared by; the bound on log p(x) if it is None.
        patience: how many evaluations may pass without better ones; any number if it is None.
    """

    def __init__(self, criterion: Criterion | None, patience: int | None) -> None:
        self.criterion, self.patience = criterion, patience
        self.score = -math.inf
        self.waited = 0
        self.weights: dict[str, Tensor] = {}

    def consider(self, row: dict[str, Any], weights: Callable[[], dict[str, Tensor]]) -> bool:
        """Look at an epoch's row of the history; say whether patience is out.

        Args:
            row: it counts if it has a number to compare by; is marked `best` if it is the best yet.
            weights: returns copies of the weights that have earned it, and of the buffers.
        """
        if self.criterion is None and self.patience is None:
            return False
        name = "bound" if self.criterion is None else self.criterion.name
        value = row.get(name)
        if name not in row or (value is None and self.criterion is None):
            return False
        lower = self.criterion is not None and self.criterion.better == "lower"
        score = -math.inf if value is None else -value if lower else value
        if score > self.score:
            self.score, self.waited = score, 0
            self.weights, row["best"] = weights(), True
            return False
        self.waited += 1
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """Return score and patience, as plain values; the weights are not among them."""
        return {"best": self.score if self.weights else None, "waited": self.waited}

    def restore(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned, and the weights then.

        Args:
            state: score and patience.
            weights: the best ones, by name; none if there were none.
        """
        self.score = -math.inf if state["best"] is None else state["best"]
        self.waited, self.weights = state["waited"], dict(weights)


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a row of the history has of a criterion, of layers and of multipliers, by name.

    Args:
        row: the row.
    """
    return {k: v for k, v in row.items() if k not in _OWN and isinstance(v, int | float)}


def judged(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a row of the history has of a criterion, by its name; others have a point."""
    return {k: v for k, v in figures(row).items() if "." not in k}
