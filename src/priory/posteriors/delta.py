"""Any latents: a point, of a deterministic encoder."""

from pyro.distributions import Delta, TorchDistribution
from torch import Tensor

from priory.posteriors.base import Posterior


class DeltaPosterior(Posterior):
    """A point: features are the latent itself, so that the encoder is deterministic."""

    name = "delta"
    params = 1

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 1, latent)."""
        return Delta(features.squeeze(-2), event_dim=1)
