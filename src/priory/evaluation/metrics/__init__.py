"""The table of metrics: each a function of draws with declared needs, in one of six groups."""

from priory.evaluation.metrics.metric import GROUPS, METRICS, Metric
from priory.evaluation.metrics.table import ANCHORS, choose, measure

__all__ = ["ANCHORS", "GROUPS", "METRICS", "Metric", "choose", "measure"]
