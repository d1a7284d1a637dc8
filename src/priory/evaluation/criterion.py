"""Metrics as criteria: by which weights a training run is to end with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from priory.data import Data
from priory.evaluation.judging import evaluate
from priory.evaluation.registry import Better
from priory.evaluation.table import METRICS
from priory.inference.selection import Criterion, NoValue
from priory.lookup import named


class ByMetric(Criterion):
    """Compares weights by a metric on the validation rows, as `fit(..., best=)` expects it.

    Args:
        metric: a metric that has a better direction (see `METRICS`).
        n_samples: generated samples, and data to compare them with, at most so many of each.
        particles: importance samples K per datum, of metrics that need the bound on log p(x).
        limit: at most so many validation rows, evenly spaced.

    Raises:
        ValueError: if there is no such metric, or it has no better direction.

    Example:
        >>> ByMetric("mmd").better
        'lower'
    """

    def __init__(
        self, metric: str, n_samples: int = 1000, particles: int = 100, limit: int | None = None
    ) -> None:
        if metric in METRICS and METRICS[metric].better is None:
            raise ValueError(
                f"{metric} has no better direction; choose among {', '.join(_ranked())}"
            )
        named("metric", metric, _ranked())
        for name, value in {"n_samples": n_samples, "particles": particles, "limit": limit}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.metric = metric
        self.n_samples, self.particles, self.limit = n_samples, particles, limit

    @property
    def name(self) -> str:  # type: ignore[override]
        """The metric's name."""
        return self.metric

    @property
    def better(self) -> Better:  # type: ignore[override]
        """The direction in which the metric improves."""
        return _ranked()[self.metric]

    def __call__(self, pair: Any, data: Data, seed: int) -> float:
        """Return the metric on the validation rows.

        Args:
            pair: with the weights that are to be judged.
            data: what it is trained on.
            seed: seed of all draws.

        Raises:
            NoValue: if the metric is not applicable, with the reason.
        """
        report = evaluate(
            pair,
            data,
            split="valid",
            metrics=[self.metric],
            n_samples=self.n_samples,
            particles=self.particles,
            limit=self.limit,
            seed=seed,
            pictures=False,
        )
        record = report[self.metric]
        if record.value is None:
            raise NoValue(f"{self.metric} cannot be had: {record.note}")
        return float(record.value)


def _ranked() -> dict[str, Better]:
    """Return the metrics that have a better direction, and which."""
    return {name: row.better for name, row in METRICS.items() if row.better is not None}


def _maker(metric: str) -> Callable[..., ByMetric]:
    def make(n_samples: int = 1000, particles: int = 100, limit: int | None = None) -> ByMetric:
        return ByMetric(metric, n_samples, particles, limit)

    make.__doc__ = (METRICS[metric].function.__doc__ or "") + (
        "\n\nArgs:\n"
        "    n_samples: generated samples, and data to compare them with.\n"
        "    particles: K of the bound.\n"
        "    limit: at most so many validation rows.\n"
    )
    return make


CRITERIA: dict[str, Callable[..., Criterion]] = {name: _maker(name) for name in _ranked()}
"""What makes a criterion of each metric that has a better direction, by the metric's name."""
