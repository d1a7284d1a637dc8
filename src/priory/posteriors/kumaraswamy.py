"""Latents in the unit interval: independent Kumaraswamy coordinates."""

import math

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.kumaraswamy import Kumaraswamy
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited

STARTS, GROWTH = (1.0, 5.0), 1e5
LEAST = 0.15  # at a b of 10^6, the a below which most draws underflow in single precision


def shapes_from(features: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return two positive shapes, (*batch, latent) each, 1 and 5 at features of zero.

    Features are logarithms of the shapes, as those of a normal's scale. A stick whose width is a
    tenth of what it is needs shapes of ten, and a thousand and more where it is short besides.

    Args:
        features: Of any size, (*batch, 2, latent).
        least: What the shapes stay above.
    """
    a, b = (
        least + (start - least) * limited(feature, most=math.log(GROWTH)).exp()
        for feature, start in zip(features.unbind(-2), STARTS, strict=True)
    )
    return a, b


class KumaraswamyPosterior(Posterior):
    """Independent Kumaraswamy coordinates in the unit interval.

    Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders. Features are the logarithms
    of both shapes, from the distribution Kumaraswamy(1, 5) on, which is Beta(1, 5). Shapes are
    between 0.15 and about 10^6, so that few draws underflow in single precision: those that do are
    kept off 0, where their density is another's.
    """

    name = "kumaraswamy"
    params = 2
    support = constraints.unit_interval

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        a, b = shapes_from(features, LEAST)
        return Kumaraswamy(a, b).to_event(1)
