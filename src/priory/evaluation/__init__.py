"""Judging pairs: draws, metrics as pure functions, the report and its pictures."""

from priory.evaluation.cells import Entry
from priory.evaluation.comparison import Comparison, comparison_table
from priory.evaluation.draws import Draws, Unavailable
from priory.evaluation.evaluate import evaluate
from priory.evaluation.latents import (
    active_units,
    aggregate_log_density,
    knn_hits,
    split_kl,
)
from priory.evaluation.likelihood import Bounds, log_likelihood
from priory.evaluation.metrics import METRICS, Metric
from priory.evaluation.pictures import Gallery
from priory.evaluation.record import Record, mean_record, not_applicable
from priory.evaluation.report import Report
from priory.evaluation.samples import independent_marginals, median_bandwidths, mmd2

__all__ = [
    "METRICS",
    "Bounds",
    "Comparison",
    "Draws",
    "Entry",
    "Gallery",
    "Metric",
    "Record",
    "Report",
    "Unavailable",
    "active_units",
    "aggregate_log_density",
    "comparison_table",
    "evaluate",
    "independent_marginals",
    "knn_hits",
    "log_likelihood",
    "mean_record",
    "median_bandwidths",
    "mmd2",
    "not_applicable",
    "split_kl",
]
