"""Relaxed bits."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.concrete import LogitConcrete, log_odds
from priory.priors.base import Encode, Prior


class Concrete(Prior):
    r"""Bits that are relaxed to the interval, as their log-odds.

    .. math:: z_i = L_i / \lambda, \quad L_i \sim \mathrm{Logistic}(0, 1), \qquad
        e(z) = 2 \sigma(z) - 1

    Maddison, Mnih and Teh, 2017, The Concrete distribution: a continuous relaxation of discrete
    random variables. The posterior is of the same family, at a temperature of 2/3; both are
    densities of the same log-odds, so that the bounds are of the relaxed model itself, not of one
    with bits. For bits that stay whole take a `HelmholtzMachine`.

    Args:
        temperature: lambda; the paper's is 1/2 for the prior.

    Raises:
        ValueError: The temperature isn't positive.

    Example:
        >>> prior = Concrete()
        >>> prior.build(2, torch.zeros(1, 4))
        >>> prior.embed(torch.tensor([0.0, 50.0]))
        tensor([0., 1.])
    """

    name = "concrete"
    support = log_odds
    zeros: Tensor

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the constants."""
        self.register_buffer("zeros", torch.zeros(latent), persistent=False)

    def embed(self, z: Tensor) -> Tensor:
        """Map log-odds (*batch, latent) to relaxed bits in [-1, 1]."""
        return 2 * z.sigmoid() - 1

    def distribution(self) -> TorchDistribution:
        """Return the distribution of the log-odds."""
        return LogitConcrete(self.zeros, self.temperature, validate_args=False).to_event(1)
