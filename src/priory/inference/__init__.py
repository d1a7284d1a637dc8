"""Phases, objectives, adversaries, and the engine that trains any Pyro pair with them."""

from priory.inference.adversary import Adversarial
from priory.inference.fit import fit
from priory.inference.objectives import ELBO, IWAE, Match, Objective, Reconstruction, Renyi
from priory.inference.phases import Phases, generate
from priory.inference.recorder import MismatchError
from priory.inference.run import Pair, Run, load
from priory.inference.schedules import Cosine, Exponential, Linear, Schedule
from priory.inference.svi import SVI

__all__ = [
    "ELBO",
    "IWAE",
    "SVI",
    "Adversarial",
    "Cosine",
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
    "Schedule",
    "fit",
    "generate",
    "load",
]
