"""The variational lossy autoencoder: an autoregressive decoder, and a code for the rest."""

import pyro
from torch import Tensor, nn

from priory.likelihoods import Likelihood
from priory.lookup import lookup
from priory.models.pair import Amortised
from priory.nets import AutoregressiveDecoder, AutoregressiveNet, Encoder
from priory.posteriors import Posterior
from priory.priors import PRIORS, Prior


class VLAE(Amortised):
    r"""The variational lossy autoencoder of Chen et al., 2017.

    .. math:: z \sim p(z), \quad x_i \sim p(x_i; f_i(x_1, \dots, x_{i-1}, z)); \qquad
        z \sim q(z \mid g(x))

    Variational lossy autoencoder. What f can predict from the coordinates that it sees costs no
    code, and the code holds the rest: an image's global structure where f sees a small window
    (`pixelcnn:window=2`), nothing where it sees all before. The prior `Flow(kind="maf")` is their
    autoregressive one, as flexible as the posterior `iaf` (their section 3.2).

    Args:
        prior: p(z); its support decides which posteriors fit.
        encoder: g, from a datum to the posterior's features; a net, any module, or a name.
        decoder: f, from a datum and a latent to the likelihood's features; an autoregressive net,
            or a name.
        likelihood: Of a coordinate; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.
        posterior: The family of q(z | .), or its name; "auto" takes the one of the prior's support.

    Example:
        >>> import torch
        >>> from priory.nets import PixelCNN
        >>> pair, x = VLAE(decoder=PixelCNN(window=2), latent=4), torch.rand(10, 1, 8, 8).round()
        >>> pair.build(x)
        >>> pair.decoder(torch.zeros(3, 4)).sample().shape
        torch.Size([3, 1, 8, 8])
    """

    name = "vlae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: AutoregressiveNet | str = "made",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = Encoder(encoder, self.prior.support, posterior=posterior)
        self.decoder = AutoregressiveDecoder(decoder, self.prior, likelihood)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x))
