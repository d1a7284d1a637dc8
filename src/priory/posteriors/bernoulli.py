"""Binary latents: independent bits."""

from pyro.distributions import Bernoulli, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.posteriors.base import Posterior


class BernoulliPosterior(Posterior):
    """Independent bits: features are their log-odds."""

    name = "bernoulli"
    params = 1
    support = constraints.boolean

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 1, latent)."""
        return Bernoulli(logits=features.squeeze(-2)).to_event(1)
