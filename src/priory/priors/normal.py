"""The standard normal prior."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.independent import StandardNormal
from priory.priors.base import Encode, Prior


class Normal(Prior):
    r"""The standard normal distribution.

    .. math:: p(z) = N(z; 0, I)

    Kingma and Welling, 2014, Auto-encoding variational Bayes.

    Example:
        >>> prior = Normal()
        >>> prior.build(3, torch.zeros(1, 4))
        >>> prior().event_shape
        torch.Size([3])
    """

    name = "normal"
    zeros: Tensor

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the constants."""
        self.register_buffer("zeros", torch.zeros(latent), persistent=False)

    def distribution(self) -> TorchDistribution:
        """Return N(0, I)."""
        return StandardNormal(self.zeros, 1)
