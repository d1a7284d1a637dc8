"""How well ways through the latent space keep what they should."""

from __future__ import annotations

from priory.evaluation.metrics.metric import Metric

ROWS: dict[str, Metric] = {}
