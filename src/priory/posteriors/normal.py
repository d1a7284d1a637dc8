"""Real latents: independent normal coordinates."""

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.independent import IndependentNormal
from priory.posteriors.base import Posterior

LEAST, MOST = -12.0, 4.0


def limited(value: Tensor, least: float = LEAST, most: float = MOST) -> Tensor:
    """Return values as they are between two limits; those beyond tend to one more.

    Args:
        value: Of any shape and size, such as a log standard deviation.
        least: From where they are taken as they are.
        most: Up to where.
    """
    inner = value.clamp(least, most)
    rest = value - inner
    return inner + rest / (1 + rest.abs())


class NormalPosterior(Posterior):
    """Independent normal coordinates: features are the means and the log standard deviations.

    Log standard deviations in [-12, 4] are taken as they are; those beyond tend to -13 and 5, with
    a gradient that leads back, so that no odd datum draws a latent without bound.
    """

    name = "normal"
    params = 2
    support = constraints.real

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        loc, log_scale = features.unbind(-2)
        return IndependentNormal(loc, limited(log_scale), 1)
