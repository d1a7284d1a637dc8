"""What a model says of its data."""

from __future__ import annotations

from priory.evaluation.metrics.metric import Metric

ROWS: dict[str, Metric] = {}
