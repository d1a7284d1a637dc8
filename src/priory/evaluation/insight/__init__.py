"""What a model says of its data: rare examples, outliers, weights that balance a training set."""

from priory.evaluation.insight.balance import balance, class_shares, effective_size, resample
from priory.evaluation.insight.density import (
    Coverage,
    bound,
    cover,
    latent_density,
    prior_density,
    rarest,
)
from priory.evaluation.insight.outliers import (
    Area,
    auroc,
    code_length,
    complexity_ratio,
    likelihood_ratio,
    mutate,
)

__all__ = [
    "Area",
    "Coverage",
    "auroc",
    "balance",
    "bound",
    "class_shares",
    "code_length",
    "complexity_ratio",
    "cover",
    "effective_size",
    "latent_density",
    "likelihood_ratio",
    "mutate",
    "prior_density",
    "rarest",
    "resample",
]
