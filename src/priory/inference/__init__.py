"""Phases, objectives, adversaries, and the engine that trains any Pyro pair with them."""

from priory.inference.callback import Callback
from priory.inference.fit import fit
from priory.inference.greedy import Greedy
from priory.inference.hub import pull, push
from priory.inference.loggers import Logger
from priory.inference.mixture_of_codes import MixtureOfCodes
from priory.inference.objectives import (
    CIWAE,
    ELBO,
    EM,
    IWAE,
    KL,
    MAP,
    MIWAE,
    PIWAE,
    Adversarial,
    Capacity,
    Classification,
    Constraint,
    Contrast,
    Cosine,
    Denoise,
    Exponential,
    FreeBits,
    Gradient,
    Infuse,
    LabelledELBO,
    Linear,
    Match,
    Objective,
    Of,
    Reconstruction,
    Renyi,
    Scaled,
    Schedule,
    Sleep,
    Steps,
    Sum,
    Wake,
)
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError
from priory.inference.run import Programs, Run, load
from priory.inference.selection import Criterion
from priory.inference.stage import Stage
from priory.inference.svi import SVI
from priory.inference.tree_of_codes import TreeOfCodes
from priory.inference.unfold import Unfold

__all__ = [
    "CIWAE",
    "ELBO",
    "EM",
    "IWAE",
    "KL",
    "MAP",
    "MIWAE",
    "PIWAE",
    "SVI",
    "Adversarial",
    "Callback",
    "Capacity",
    "Classification",
    "Constraint",
    "Contrast",
    "Cosine",
    "Criterion",
    "Denoise",
    "Exponential",
    "FreeBits",
    "Gradient",
    "Greedy",
    "Infuse",
    "LabelledELBO",
    "Linear",
    "Logger",
    "Match",
    "MismatchError",
    "MixtureOfCodes",
    "Objective",
    "Of",
    "Phases",
    "Programs",
    "Reconstruction",
    "Renyi",
    "Run",
    "Scaled",
    "Schedule",
    "Sleep",
    "Stage",
    "Steps",
    "Sum",
    "TreeOfCodes",
    "Unfold",
    "Wake",
    "fit",
    "generate",
    "load",
    "pull",
    "push",
]
