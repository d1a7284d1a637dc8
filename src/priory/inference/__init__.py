"""Phases, objectives, adversaries, and the engine that trains any Pyro pair with them."""

from priory.inference.fit import fit
from priory.inference.objectives import (
    ELBO,
    EM,
    IWAE,
    KL,
    Adversarial,
    Capacity,
    Classification,
    Cosine,
    Exponential,
    FreeBits,
    Gradient,
    Linear,
    Match,
    Objective,
    Reconstruction,
    Renyi,
    Scaled,
    Schedule,
    Sleep,
    Sum,
    Wake,
)
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError
from priory.inference.run import Programs, Run, load
from priory.inference.selection import Criterion
from priory.inference.svi import SVI

__all__ = [
    "ELBO",
    "EM",
    "IWAE",
    "KL",
    "SVI",
    "Adversarial",
    "Capacity",
    "Classification",
    "Cosine",
    "Criterion",
    "Exponential",
    "FreeBits",
    "Gradient",
    "Linear",
    "Match",
    "MismatchError",
    "Objective",
    "Phases",
    "Programs",
    "Reconstruction",
    "Renyi",
    "Run",
    "Scaled",
    "Schedule",
    "Sleep",
    "Sum",
    "Wake",
    "fit",
    "generate",
    "load",
]
