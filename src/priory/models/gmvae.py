"""Variational autoencoders whose latent comes from clusters, with the cluster as a latent."""

import pyro
from torch import Tensor, nn

from priory.distributions.categorical import OneHot
from priory.likelihoods import Likelihood
from priory.models.pair import Pair
from priory.nets import ConditionalEncoder, Decoder
from priory.nets.classifier import Classifier
from priory.priors import GaussianMixture


class GMVAE(Pair):
    r"""The Gaussian mixture variational autoencoder, with a net that assigns data to clusters.

    .. math:: c \sim \mathrm{Cat}(1/K), \quad z \sim N(m_c, \mathrm{diag}(s_c^2)), \quad
        x \sim p(x \mid f(z)); \qquad
        c \sim \mathrm{Cat}(\mathrm{softmax}\, h(x)), \quad z \sim q(z \mid g(x, c))

    Shu, 2016, Gaussian mixture VAE: lessons in variational inference, generative models, and deep
    nets; after the model M2 of Kingma, Rezende, Mohamed and Welling, 2014, Semi-supervised
    learning with deep generative models. Trained by a bound in which c is summed exactly,
    `ELBO(gradient="enumerate")`, at the cost of K decoders. A `VAE` with the prior
    `GaussianMixture` is the same model with c summed out, and a posterior q(z | x) for all of it.

    Args:
        components: K, the number of clusters.
        encoder: g, from a datum and its cluster to the features of z; a net, any module (which is
            given an image's cluster as planes), or a name.
        classifier: h, from a datum to the log-odds of the clusters; likewise.
        decoder: f, from z to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of coordinates of z.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = GMVAE(components=3, latent=2)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.clusters(torch.zeros(5, 1, 8, 8)).probs.shape
        torch.Size([5, 3])
    """

    name = "gmvae"

    def __init__(
        self,
        components: int = 10,
        encoder: nn.Module | str = "mlp",
        classifier: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
    ) -> None:
        super().__init__(latent)
        self.components = components
        self.prior = GaussianMixture(components, equal=True)
        self.classifier = Classifier(classifier, components)
        self.encoder = ConditionalEncoder(encoder, self.prior.support, components)
        self.decoder = Decoder(decoder, self.prior, likelihood)

    def clusters(self, x: Tensor) -> OneHot:
        """Return q(c | x), batch shape (*batch), for data (*batch, *shape)."""
        return OneHot(logits=self.classifier(x))

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            c = pyro.sample("c", OneHot(logits=self.prior.logits))
            z = pyro.sample("z", self.prior.component(c))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            c = pyro.sample("c", self.clusters(x))
            pyro.sample("z", self.encoder(x, c))
