"""Distributions over a latent, all exchangeable."""

from priory.priors.base import Prior
from priory.priors.flow import Flow
from priory.priors.mixture import GaussianMixture, NormalMixture
from priory.priors.normal import Normal
from priory.priors.sticks import StickBreaking
from priory.priors.uniform import Uniform
from priory.priors.vamp import VampPrior

PRIORS: dict[str, type[Prior]] = {
    "flow": Flow,
    "mixture": GaussianMixture,
    "normal": Normal,
    "stick-breaking": StickBreaking,
    "uniform": Uniform,
    "vamp": VampPrior,
}

__all__ = [
    "PRIORS",
    "Flow",
    "GaussianMixture",
    "Normal",
    "NormalMixture",
    "Prior",
    "StickBreaking",
    "Uniform",
    "VampPrior",
]
