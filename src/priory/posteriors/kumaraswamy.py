"""Latents in the unit interval: independent Kumaraswamy coordinates."""

import math

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from priory.distributions.kumaraswamy import Kumaraswamy
from priory.posteriors.base import Posterior


class KumaraswamyPosterior(Posterior):
    """Independent Kumaraswamy coordinates in the unit interval.

    Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders. Features of zero give the
    distribution Kumaraswamy(1, 5), which is Beta(1, 5). Shapes are at most about 10^6.
    """

    name = "kumaraswamy"
    params = 2
    support = constraints.unit_interval
    least = 1e-3
    most = 1e6
    starts = (1.0, 5.0)

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        kept = features.clamp(max=self.most).unbind(-2)
        a, b = (
            softplus(feature + math.log(math.expm1(start - self.least))) + self.least
            for feature, start in zip(kept, self.starts, strict=True)
        )
        return Kumaraswamy(a, b).to_event(1)
