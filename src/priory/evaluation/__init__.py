"""Judging pairs: draws, metrics as pure functions, the report and its pictures."""

from priory.evaluation.arrays import evaluate_samples
from priory.evaluation.arviz import loo, to_arviz
from priory.evaluation.criterion import ByMetric
from priory.evaluation.draws import Draws
from priory.evaluation.evaluate import evaluate
from priory.evaluation.insight import (
    auroc,
    balance,
    bound,
    code_length,
    complexity_ratio,
    cover,
    latent_density,
    likelihood_ratio,
    mutate,
    prior_density,
    rarest,
    resample,
)
from priory.evaluation.latents.information import active_units, aggregate_log_density, split_kl
from priory.evaluation.latents.neighbours import knn_hits, linear_probe
from priory.evaluation.likelihood.ais import annealed_log_likelihood
from priory.evaluation.likelihood.bidirectional import bidirectional
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.likelihood.conditional import conditional_log_likelihood
from priory.evaluation.likelihood.hmc import hmc
from priory.evaluation.likelihood.imputation import impute, missing_log_likelihood
from priory.evaluation.likelihood.pareto import khat
from priory.evaluation.metrics import METRICS, Metric
from priory.evaluation.paths import (
    Codec,
    Judge,
    arithmetic,
    class_moments,
    lerp,
    pair_paths,
    slerp,
    strips,
)
from priory.evaluation.posterior.calibration import Calibration, calibration
from priory.evaluation.posterior.gap import inference_gaps
from priory.evaluation.posterior.predictive import predictive
from priory.evaluation.record import Record, mean_record, not_applicable
from priory.evaluation.report.cells import Entry
from priory.evaluation.report.comparison import Comparison, comparison_table
from priory.evaluation.report.gallery import Gallery
from priory.evaluation.report.paired import Difference, paired_differences
from priory.evaluation.report.report import Report
from priory.evaluation.samples.distances import sliced_wasserstein2, wasserstein2
from priory.evaluation.samples.features import Extractor, extractor
from priory.evaluation.samples.frechet import frechet_distance
from priory.evaluation.samples.kernels import independent_marginals, median_bandwidths, mmd2
from priory.evaluation.samples.manifold import manifold
from priory.evaluation.samples.memory import nearest_training
from priory.evaluation.samples.modes import modes
from priory.evaluation.samples.permutation import permutation_p
from priory.evaluation.samples.twosample import logistic_test, nearest_neighbour_test
from priory.evaluation.sets import Sets, Unavailable

__all__ = [
    "METRICS",
    "Bounds",
    "ByMetric",
    "Calibration",
    "Codec",
    "Comparison",
    "Difference",
    "Draws",
    "Entry",
    "Extractor",
    "Gallery",
    "Judge",
    "Metric",
    "Record",
    "Report",
    "Sets",
    "Unavailable",
    "active_units",
    "aggregate_log_density",
    "annealed_log_likelihood",
    "arithmetic",
    "auroc",
    "balance",
    "bidirectional",
    "bound",
    "calibration",
    "class_moments",
    "code_length",
    "comparison_table",
    "complexity_ratio",
    "conditional_log_likelihood",
    "cover",
    "evaluate",
    "evaluate_samples",
    "extractor",
    "frechet_distance",
    "hmc",
    "impute",
    "independent_marginals",
    "inference_gaps",
    "khat",
    "knn_hits",
    "latent_density",
    "lerp",
    "likelihood_ratio",
    "linear_probe",
    "log_likelihood",
    "logistic_test",
    "loo",
    "manifold",
    "mean_record",
    "median_bandwidths",
    "missing_log_likelihood",
    "mmd2",
    "modes",
    "mutate",
    "nearest_neighbour_test",
    "nearest_training",
    "not_applicable",
    "pair_paths",
    "paired_differences",
    "permutation_p",
    "predictive",
    "prior_density",
    "rarest",
    "resample",
    "slerp",
    "sliced_wasserstein2",
    "split_kl",
    "strips",
    "to_arviz",
    "wasserstein2",
]
