"""Distributions over a latent, all exchangeable, one file each."""

from priory.priors.aggregated import AggregatedPosterior as AggregatedPosterior
from priory.priors.base import Prior as Prior
from priory.priors.boltzmann import Boltzmann as Boltzmann
from priory.priors.concrete import Concrete as Concrete
from priory.priors.exemplar import ExemplarPrior as ExemplarPrior
from priory.priors.flow import Flow as Flow
from priory.priors.mixture import GaussianMixture as GaussianMixture
from priory.priors.mixture import NormalMixture as NormalMixture
from priory.priors.normal import Normal as Normal
from priory.priors.sticks import StickBreaking as StickBreaking
from priory.priors.tree import NestedCRP as NestedCRP
from priory.priors.uniform import Uniform as Uniform
from priory.priors.vamp import VampPrior as VampPrior
from priory.registry import registry

PRIORS: dict[str, type[Prior]] = registry(Prior, globals())

__all__ = ["PRIORS", "AggregatedPosterior", "NormalMixture", "Prior"]
__all__ += [part.__name__ for part in PRIORS.values()]
