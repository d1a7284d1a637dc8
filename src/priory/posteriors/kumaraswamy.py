"""Latents in the unit interval: independent Kumaraswamy coordinates."""

import math

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from priory.distributions.kumaraswamy import Kumaraswamy
from priory.posteriors.base import Posterior

MOST, STARTS = 1e6, (1.0, 5.0)


def shapes_from(features: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return two positive shapes, (*batch, latent) each, 1 and 5 at features of zero.

    Args:
        features: Of any size, (*batch, 2, latent).
        least: What the shapes stay above.
    """
    kept = features.clamp(max=MOST).unbind(-2)
    a, b = (
        softplus(feature + math.log(math.expm1(start - least))) + least
        for feature, start in zip(kept, STARTS, strict=True)
    )
    return a, b


class KumaraswamyPosterior(Posterior):
    """Independent Kumaraswamy coordinates in the unit interval.

    Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders. Features of zero give the
    distribution Kumaraswamy(1, 5), which is Beta(1, 5). Shapes are at most about 10^6.
    """

    name = "kumaraswamy"
    params = 2
    support = constraints.unit_interval

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        a, b = shapes_from(features, least=1e-3)
        return Kumaraswamy(a, b).to_event(1)
