"""Latents in the unit interval: independent logit-normal coordinates."""

import math

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.logit_normal import LogitNormal
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited


class LogitNormalPosterior(Posterior):
    """Independent coordinates in the unit interval whose log-odds are normal.

    The Gauss-Logit posterior of Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders.
    Features are the log-odds' means and log standard deviations, from those of Beta(1, 5) on: of
    mean -25/12 and variance pi^2/3 - 205/144. Of all logit-normals that one is nearest to Beta(1,
    5), by the divergence of the latter from it; it is none of its family.
    """

    name = "logit-normal"
    params = 2
    support = constraints.unit_interval
    automatic = False
    starts = (-25 / 12, 0.5 * math.log(math.pi**2 / 3 - 205 / 144))

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        loc, log_scale = features.unbind(-2)
        start, spread = self.starts
        return LogitNormal(loc + start, limited(log_scale + spread)).to_event(1)
