"""The VampPrior: the aggregated posterior at learned pseudo-inputs."""

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.priors.aggregated import AggregatedPosterior
from priory.priors.base import Encode
from priory.priors.mixture import NormalMixture


class VampPrior(AggregatedPosterior):
    r"""A mixture of the pair's own posteriors at learned pseudo-inputs.

    .. math:: p(z) = \frac1C \sum_c q(z \mid u_c)

    Tomczak and Welling, 2018, VAE with a VampPrior. The pseudo-inputs start at random rows of the
    training data; where the data lie in [0, 1] they are kept there.

    Args:
        components: Number of pseudo-inputs.
        noise: Standard deviation of the noise on the starting rows, in the data's units.
        seed: Of the choice of rows and of the noise.

    Raises:
        ValueError: There is no component, or the pair has no encoder that is an `Encoder` itself.

    Example:
        >>> prior = VampPrior(components=5)
        >>> prior.build(2, torch.rand(9, 2), lambda x: dist.Normal(x, 1.0).to_event(1))
        >>> prior().event_shape
        torch.Size([2])
    """

    name = "vamp"
    bounds: Tensor

    def __init__(self, components: int = 500, noise: float = 0.01, seed: int = 0) -> None:
        super().__init__(components, seed)
        self.noise = noise

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the pseudo-inputs, (components, *shape)."""
        draw = torch.Generator().manual_seed(self.seed)
        start = self.chosen(x, draw)
        noise = torch.randn(start.shape, generator=draw, dtype=torch.float64)
        start = start + self.noise * noise.to(start)
        inside = ((x >= 0) & (x <= 1)).all()
        bounds = torch.tensor([[-torch.inf, torch.inf], [0.0, 1.0]], device=x.device)[inside.long()]
        self.register_buffer("bounds", bounds.to(start.dtype))
        self.pseudo = nn.Parameter(start.clamp(self.bounds[0], self.bounds[1]))

    def inputs(self) -> Tensor:
        """Return the pseudo-inputs as the encoder sees them, (components, *shape)."""
        return self.pseudo.clamp(self.bounds[0], self.bounds[1])

    def distribution(self) -> TorchDistribution:
        """Return the mixture of posteriors, of whichever family the encoder has."""
        posterior = self.posteriors(self.inputs())
        logits = torch.zeros(self.components, dtype=self.pseudo.dtype, device=self.pseudo.device)
        if isinstance(posterior, IndependentNormal):
            return NormalMixture(logits, posterior.loc, posterior.log_scale)
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), posterior)
