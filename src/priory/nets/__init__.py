"""Encoders, decoders and critics, likelihood heads and posterior heads."""

from priory.nets.base import Net, Shape, Wrapped, as_net
from priory.nets.conv import Conv, Deconv
from priory.nets.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    Delta,
    DiscretizedLogistic,
    Likelihood,
    Normal,
    likelihood_for,
)
from priory.nets.mlp import MLP
from priory.nets.posteriors import (
    KumaraswamyPosterior,
    NormalPosterior,
    Posterior,
    posterior_for,
)

NETS: dict[str, type[Net]] = {"conv": Conv, "deconv": Deconv, "mlp": MLP}

__all__ = [
    "LIKELIHOODS",
    "MLP",
    "NETS",
    "Bernoulli",
    "ContinuousBernoulli",
    "Conv",
    "Deconv",
    "Delta",
    "DiscretizedLogistic",
    "KumaraswamyPosterior",
    "Likelihood",
    "Net",
    "Normal",
    "NormalPosterior",
    "Posterior",
    "Shape",
    "Wrapped",
    "as_net",
    "likelihood_for",
    "posterior_for",
]
