"""The variational autoencoder, with any prior, nets and likelihood."""

import pyro
from torch import Tensor, nn

from priory.distributions.padded import carried
from priory.likelihoods import Likelihood
from priory.lookup import lookup
from priory.models.pair import Amortised
from priory.nets import Decoder, Encoder
from priory.posteriors import Posterior
from priory.priors import PRIORS, Prior


class VAE(Amortised):
    r"""The variational autoencoder of Kingma and Welling, 2014, and Rezende et al., 2014.

    .. math:: z \sim p(z), \quad x \sim p(x \mid f(z)); \qquad z \sim q(z \mid g(x))

    Of data with a column `length`, sequences that are padded, p(x | z) and q(z | x) are those of
    the steps that count.

    Args:
        prior: p(z); its support decides which posteriors fit.
        encoder: g, from a datum to the posterior's features; a net, any module, or a name.
        decoder: f, from a latent to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.
        deterministic: Whether z = g(x), as in an autoencoder.
        posterior: The family of q(z | .), or its name; "auto" takes the one of the prior's support.

    Raises:
        ValueError: A name is unknown, a number isn't positive, or the posterior's family does not
            cover the prior's support.
    """

    name = "vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        deterministic: bool = False,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.deterministic = deterministic
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = Encoder(
            encoder, self.prior.support, point=deterministic, posterior=posterior
        )
        self.decoder = Decoder(decoder, self.prior, likelihood)

    def build(self, x: Tensor, y: Tensor | None = None, length: Tensor | None = None) -> None:
        """Make the parameters for data like `x`; a second call only looks at the data.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.
            y: Without effect.
            length: Steps of each datum that is a sequence, (n,); None where all are full.

        Raises:
            ValueError: The data don't suit the pair (their type, values), a net's size doesn't fit,
                or the pair is built for another shape, precision or device.
        """
        super().build(x if length is None or self.shape is not None else carried(x, length), y)

    def model(self, x: Tensor, length: Tensor | None = None) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z, length=length), obs=x)

    def guide(self, x: Tensor, length: Tensor | None = None) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x, length))
