"""The uniform prior."""

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions import Uniform as _Uniform
from torch import Tensor
from torch.distributions import constraints

from priory.priors.base import Encode, Prior


class Uniform(Prior):
    r"""The uniform distribution on the unit cube, of which the decoder sees [-1, 1].

    .. math:: p(z) = U(z; 0, 1), \qquad e(z) = 2 z - 1

    The noise of many generators, such as Donahue et al., 2017, Adversarial feature learning.

    Example:
        >>> prior = Uniform()
        >>> prior.build(2, torch.zeros(1, 4))
        >>> prior.embed(torch.tensor([0.0, 1.0]))
        tensor([-1.,  1.])
    """

    name = "uniform"
    support = constraints.unit_interval
    zeros: Tensor

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the constants."""
        self.register_buffer("zeros", torch.zeros(latent), persistent=False)

    def embed(self, z: Tensor) -> Tensor:
        """Map latents (*batch, latent) of the unit cube to those of [-1, 1]."""
        return 2 * z - 1

    def distribution(self) -> TorchDistribution:
        """Return U(0, 1)."""
        return _Uniform(self.zeros, self.zeros + 1, validate_args=False).to_event(1)
