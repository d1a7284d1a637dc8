"""Whether a guide is the posterior."""

from __future__ import annotations

from priory.evaluation.metrics.metric import Metric

ROWS: dict[str, Metric] = {}
