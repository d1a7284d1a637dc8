"""Judging pairs: draws, metrics as pure functions, the report and its pictures."""

from priory.evaluation.arrays import evaluate_samples
from priory.evaluation.arviz import loo, to_arviz
from priory.evaluation.draws import Draws
from priory.evaluation.evaluate import evaluate
from priory.evaluation.latents.information import (
    active_units,
    aggregate_log_density,
    knn_hits,
    split_kl,
)
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.metrics import METRICS, Metric
from priory.evaluation.record import Record, mean_record, not_applicable
from priory.evaluation.report.cells import Entry
from priory.evaluation.report.comparison import Comparison, comparison_table
from priory.evaluation.report.pictures import Gallery
from priory.evaluation.report.report import Report
from priory.evaluation.samples.kernels import independent_marginals, median_bandwidths, mmd2
from priory.evaluation.sets import Sets, Unavailable

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
    "Sets",
    "Unavailable",
    "active_units",
    "aggregate_log_density",
    "comparison_table",
    "evaluate",
    "evaluate_samples",
    "independent_marginals",
    "knn_hits",
    "log_likelihood",
    "loo",
    "mean_record",
    "median_bandwidths",
    "mmd2",
    "not_applicable",
    "split_kl",
    "to_arviz",
]
