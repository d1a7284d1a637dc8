"""Latents in the unit interval: independent logit-normal coordinates."""

import math

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.logit_normal import LogitNormal
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited

LOCS, LEAST = (-60.0, 8.0), -6.0  # within which single precision tells a draw from its neighbours


class LogitNormalPosterior(Posterior):
    """Independent coordinates in the unit interval whose log-odds are normal.

    The Gauss-Logit posterior of Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders.
    Features are the log-odds' means and log standard deviations, from those of Beta(1, 5) on: of
    mean -25/12 and variance pi^2/3 - 205/144. Of all logit-normals that one is nearest to Beta(1,
    5), by the divergence of the latter from it; it is none of its family. Means in [-60, 8] and log
    standard deviations in [-6, 4] are taken as they are, those beyond tend to one more: single
    precision has no more numbers near 1, and a draw's density would be another's.
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
        loc, log_scale = limited(loc + start, *LOCS), limited(log_scale + spread, LEAST)
        return LogitNormal(loc, log_scale).to_event(1)
