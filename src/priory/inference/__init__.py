"""Phases, objectives, adversaries, and the engine that trains any Pyro pair with them."""

from priory.inference.adversary import Adversarial
from priory.inference.fit import fit
from priory.inference.objectives import Objective, Scaled, Sum
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError
from priory.inference.run import Pair, Run, load
from priory.inference.schedules import Cosine, Exponential, Linear, Schedule
from priory.inference.selection import Criterion
from priory.inference.svi import SVI
from priory.inference.terms import Classification, Match, Reconstruction, Sleep
from priory.inference.variational import ELBO, IWAE, KL, Renyi

__all__ = [
    "ELBO",
    "IWAE",
    "KL",
    "SVI",
    "Adversarial",
    "Classification",
    "Cosine",
    "Criterion",
    "Exponential",
    "Linear",
    "Match",
    "MismatchError",
    "Objective",
    "Pair",
    "Phases",
    "Reconstruction",
    "Renyi",
    "Run",
    "Scaled",
    "Schedule",
    "Sleep",
    "Sum",
    "fit",
    "generate",
    "load",
]
