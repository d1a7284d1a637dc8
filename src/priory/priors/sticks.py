"""The stick-breaking prior."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.beta import InnerBeta
from priory.lookup import named
from priory.priors.base import Encode, Prior

READINGS = {"weights": 1, "shares": 0}  # how many numbers more than there are breaks


class StickBreaking(Prior):
    r"""The truncated stick-breaking process: shares of a unit stick broken `latent` times.

    .. math:: v_k \sim \mathrm{Beta}(1, a), \qquad \pi_k = v_k \prod_{j<k} (1 - v_j)

    Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders. The latent is v; the decoder
    sees the latent + 1 weights, the last of which is what remains of the stick, in units of their
    mean 1 / (latent + 1): as they are they are so small that a decoder started for inputs of unit
    size hardly learns from them. A weight has the earlier ones' noise in it, by what they leave;
    the shares, which it can be made of and they of it, have not.

    Args:
        concentration: The a of the Beta distribution; the larger, the more sticks share the weight.
        learned: Whether a is only where it starts, and the bound is maximised by it as by any other
            parameter: a point estimate, without a prior of its own.
        reads: What the decoder sees: "weights", as in the paper, or "shares", less their mean and
            over their standard deviation by the concentration that is given.

    Raises:
        ValueError: The concentration isn't positive, or there is nothing of that name to read.

    Example:
        >>> prior = StickBreaking(concentration=1.0)
        >>> prior.build(2, torch.zeros(1, 4))
        >>> prior.weights(torch.tensor([0.5, 0.5]))
        tensor([0.5000, 0.2500, 0.2500])
    """

    name = "stick-breaking"
    support = constraints.unit_interval
    shapes: Tensor

    def __init__(
        self, concentration: float = 5.0, learned: bool = False, reads: str = "weights"
    ) -> None:
        super().__init__()
        if not concentration > 0:
            raise ValueError(f"concentration must be positive, got {concentration}")
        named("reading of sticks", reads, READINGS)
        self.concentration, self.learned, self.reads = concentration, learned, reads

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the constants, and the concentration's logarithm where it is learned."""
        shapes = torch.tensor([1.0, self.concentration]).unsqueeze(-1).repeat(1, latent)
        self.register_buffer("shapes", shapes, persistent=False)
        if self.learned:
            self.log_concentration = nn.Parameter(torch.tensor(float(self.concentration)).log())

    @property
    def features(self) -> int:
        """How many weights, or shares, the decoder sees."""
        return self.latent + READINGS[self.reads]

    def embed(self, z: Tensor) -> Tensor:
        """Map shares (*batch, latent) to what the decoder sees, (*batch, features)."""
        if self.reads == "weights":
            return self.weights(z) * self.features
        a = self.concentration
        return ((1 + a) * z - 1) * math.sqrt((2 + a) / a)

    def weights(self, z: Tensor) -> Tensor:
        """Map broken-off shares (*batch, latent) to weights (*batch, latent + 1) that sum to 1."""
        left = torch.log1p(-z.clamp(max=1 - torch.finfo(z.dtype).eps)).cumsum(-1).exp()
        before = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)
        return torch.cat([z * before, left[..., -1:]], -1)

    def distribution(self) -> TorchDistribution:
        """Return the distribution of the shares v."""
        first, second = self.shapes
        if self.learned:
            second = self.log_concentration.exp() * first
        return InnerBeta(first, second).to_event(1)
