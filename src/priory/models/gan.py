"""The generator of a generative adversarial net: an implicit model without recognition."""

import pyro
from torch import Tensor, nn

from priory.likelihoods import Delta
from priory.lookup import lookup
from priory.models.pair import Pair
from priory.nets import Decoder
from priory.priors import PRIORS, Prior


class GAN(Pair):
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
        >>> pair.generator(torch.zeros(5, 2)).mean.shape
        torch.Size([5, 2])
    """

    name = "gan"

    def __init__(
        self,
        prior: Prior | str = "normal",
        generator: nn.Module | str = "mlp",
        latent: int = 2,
    ) -> None:
        super().__init__(latent)
        self.prior = lookup("prior", prior, PRIORS)
        self.generator = Decoder(generator, self.prior, Delta())

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.generator(z), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: there is no recognition of a latent from a datum."""
        self.register(x)
