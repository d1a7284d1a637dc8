"""Relaxed bits: independent Concrete coordinates, as their log-odds."""

from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.concrete import LogitConcrete, log_odds
from priory.posteriors.base import Posterior


class ConcretePosterior(Posterior):
    """Independent relaxed bits of a temperature of 2/3: features are the bits' log-odds.

    Maddison, Mnih and Teh, 2017, The Concrete distribution: a continuous relaxation of discrete
    random variables, whose temperatures are 2/3 for the posterior and 1/2 for the prior.
    """

    name = "concrete"
    params = 1
    support = log_odds
    temperature = 2 / 3

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 1, latent)."""
        return LogitConcrete(features.squeeze(-2), self.temperature, False).to_event(1)
