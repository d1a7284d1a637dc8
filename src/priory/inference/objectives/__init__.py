"""Objectives: what a pair is trained to do, by bounds, by terms, or against critics."""

from priory.inference.objectives.adversarial import Adversarial
from priory.inference.objectives.base import Objective, Scaled, Sum
from priory.inference.objectives.bounds import ELBO, IWAE, KL, Renyi
from priory.inference.objectives.schedules import Cosine, Exponential, Linear, Schedule
from priory.inference.objectives.terms import Classification, Match, Reconstruction, Sleep

__all__ = [
    "ELBO",
    "IWAE",
    "KL",
    "Adversarial",
    "Classification",
    "Cosine",
    "Exponential",
    "Linear",
    "Match",
    "Objective",
    "Reconstruction",
    "Renyi",
    "Scaled",
    "Schedule",
    "Sleep",
    "Sum",
]
