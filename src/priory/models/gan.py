"""The generator of a generative adversarial net: an implicit model without recognition."""

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.models.opening import is_built, plate, register
from priory.models.parts import build_decoder, prior_of
from priory.names import positive
from priory.nets import Delta
from priory.nets.base import Shape
from priory.nets.table import net_of
from priory.priors import Prior


class GAN(nn.Module):
    r"""A generator that turns latents into data, without a density.

    .. math:: z \sim p(z), \quad x = f(z)

    Goodfellow et al., 2014, Generative adversarial nets. The critic belongs to the objective, and
    the guide has no sites.

    Args:
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        generator: From a latent to a datum; a net, any module, or a name.
        latent: Number of latent coordinates.

    Raises:
        ValueError: The latent isn't positive, a name is unknown, or the net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = GAN(latent=2)
        >>> pair.build(torch.zeros(10, 2))
        >>> pair.likelihood_of(torch.zeros(5, 2)).mean.shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        prior: Prior | str = "normal",
        generator: nn.Module | str = "mlp",
        latent: int = 2,
    ) -> None:
        super().__init__()
        self.latent = positive("latent", latent)
        self.prior = prior_of(prior)
        self.generator = net_of(generator)
        self.likelihood = Delta()
        self.shape: Shape | None = None

    def build(self, x: Tensor) -> None:
        """Make the parameters for data like `x`; a second call does nothing.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.

        Raises:
            ValueError: The net's size doesn't fit, or the pair is built for another shape.
        """
        if is_built(self, x):
            return
        shape = tuple(x.shape[1:])
        self.likelihood.build(x)
        self.prior.build(self.latent, x)
        build_decoder(self.generator, self.prior.features, self.likelihood, x)
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    def likelihood_of(self, z: Tensor) -> TorchDistribution:
        """Return the point mass at f(z), batch shape (*batch), for latents (*batch, latent)."""
        return self.likelihood(self.generator(self.prior.embed(z)))

    def model(self, x: Tensor) -> None:
        """Declare p(x, z) for a batch of data (batch, *shape)."""
        with plate("gan", self, x):
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(z), obs=x, infer=own)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: there is no recognition of a latent from a datum."""
        self.build(x)
        register("gan", self)
