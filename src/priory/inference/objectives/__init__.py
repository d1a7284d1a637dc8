"""Objectives: what a pair is trained to do, by bounds, by terms, or against critics."""

from priory.inference.objectives.adversarial import Adversarial
from priory.inference.objectives.base import Objective, Scaled, Sum
from priory.inference.objectives.bounds import CIWAE, ELBO, IWAE, KL, MIWAE, PIWAE, Renyi
from priory.inference.objectives.constraint import Constraint
from priory.inference.objectives.contrast import Contrast
from priory.inference.objectives.costs import COSTS
from priory.inference.objectives.denoise import Denoise
from priory.inference.objectives.em import EM
from priory.inference.objectives.few_labels import LabelledELBO
from priory.inference.objectives.games import GAMES
from priory.inference.objectives.gradients import GRADIENTS, Gradient
from priory.inference.objectives.infuse import Infuse
from priory.inference.objectives.of import Of
from priory.inference.objectives.parameters import MAP
from priory.inference.objectives.rates import Capacity, FreeBits
from priory.inference.objectives.schedules import Cosine, Exponential, Linear, Schedule
from priory.inference.objectives.steps import Steps
from priory.inference.objectives.terms import Classification, Match, Reconstruction, Sleep
from priory.inference.objectives.wake import Wake
from priory.registry import registry

OBJECTIVES: dict[str, type[Objective]] = registry(Objective, globals())
SCHEDULES: dict[str, type[Schedule]] = registry(Schedule, globals())

__all__ = [
    "CIWAE",
    "COSTS",
    "ELBO",
    "EM",
    "GAMES",
    "GRADIENTS",
    "IWAE",
    "KL",
    "MAP",
    "MIWAE",
    "OBJECTIVES",
    "PIWAE",
    "SCHEDULES",
    "Adversarial",
    "Capacity",
    "Classification",
    "Constraint",
    "Contrast",
    "Cosine",
    "Denoise",
    "Exponential",
    "FreeBits",
    "Gradient",
    "Infuse",
    "LabelledELBO",
    "Linear",
    "Match",
    "Objective",
    "Of",
    "Reconstruction",
    "Renyi",
    "Scaled",
    "Schedule",
    "Sleep",
    "Steps",
    "Sum",
    "Wake",
]
