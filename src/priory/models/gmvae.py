"""Variational autoencoders whose latent comes from clusters, with the cluster as a latent."""

from collections.abc import Sequence

import pyro
import torch
from torch import Tensor, nn

from priory.distributions.categorical import OneHot, StraightThroughCode
from priory.distributions.chosen import Chosen
from priory.likelihoods import Likelihood
from priory.likelihoods.values import SMALL, starts_small
from priory.lookup import lookup, positive
from priory.models.hierarchical import sizes_of
from priory.models.pair import Pair, build_prior
from priory.nets import ConditionalEncoder, Decoder, Encoder, StochasticLayer
from priory.nets.classifier import Classifier
from priory.posteriors import posterior_for
from priory.priors import PRIORS, GaussianMixture, Prior


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


class ComponentLayer(StochasticLayer):
    r"""From a vector to K normals over a layer's latent.

    .. math:: p(z \mid h, c) = N(z; m_c(h), \mathrm{diag}(s_c^2(h)))

    Args:
        net: From the vector to means and log standard deviations; a net, any module, or a name.
        components: K.
    """

    def __init__(self, net: nn.Module | str, components: int) -> None:
        super().__init__(net)
        self.components = positive("components", components)

    def make(self, inputs: int, latent: int) -> None:
        """Make the net."""
        self.head = posterior_for(self.support)
        self.net.build((inputs,), (self.components, self.head.params, latent))


class HierarchicalGMVAE(Pair):
    r"""The Gaussian mixture variational autoencoder whose clusters have a shape of their own.

    .. math:: w \sim p(w), \quad c \sim \mathrm{Cat}(1/K), \quad
        z \sim N(m_c(w), \mathrm{diag}(s_c^2(w))), \quad x \sim p(x \mid f(z)); \qquad
        w \sim q(w \mid x), \quad z \sim q(z \mid x), \quad
        c \sim p(c \mid z, w) \propto N(z; m_c(w), \mathrm{diag}(s_c^2(w)))

    Dilokthanakul, Mediano, Garnelo, Lee, Salimbeni, Arulkumaran and Shanahan, 2016, Deep
    unsupervised clustering with Gaussian mixture variational autoencoders, where z is called x, and
    c is called z. No net assigns the clusters: Bayes' rule does, so that log p - log q is the same
    for every c. One draw of it gives any bound exactly, and its straight-through gradient is exact
    too. The price of the clusters, KL(p(c | z, w) || 1/K), may be held up by `FreeBits(sites="c")`.

    Args:
        components: K, the number of clusters.
        prior: p(w); an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to the features of z; a net, any module, or a name.
        upper_encoder: From a datum to the features of w; likewise.
        upper: From w to the means and log standard deviations of all clusters; likewise.
        decoder: f, from z to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latents: Number of coordinates of z and of w.

    Raises:
        ValueError: A number isn't positive, there are not two latents, a name is unknown, or a
            net's size doesn't fit.

    Example:
        >>> pair = HierarchicalGMVAE(components=3, latents=(4, 2))
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.clusters(torch.zeros(5, 4), torch.zeros(5, 2)).probs.shape
        torch.Size([5, 3])
    """

    name = "hierarchical-gmvae"

    uniform: Tensor

    def __init__(
        self,
        components: int = 10,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        upper_encoder: nn.Module | str = "mlp",
        upper: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latents: Sequence[int] = (16, 16),
    ) -> None:
        sizes = sizes_of("latents", latents)
        if len(sizes) != 2:
            raise ValueError(f"latents must be two numbers, of z and of w, got {sizes}")
        super().__init__(sizes[0])
        self.components, self.latents = positive("components", components), sizes
        self.prior = lookup("prior", prior, PRIORS)
        self.upper = ComponentLayer(upper, components)
        self.encoder = Encoder(encoder, self.upper.support)
        self.upper_encoder = Encoder(upper_encoder, self.prior.support)
        self.decoder = Decoder(decoder, self.upper, likelihood)
        self.register_buffer("uniform", torch.zeros(components), persistent=False)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters for data (n, *shape)."""
        likelihood = self.decoder.choose(x)
        build_prior(self.prior, self.latents[1], x, likelihood, self.upper_encoder)
        self.encoder.build(x, self.latents[0], likelihood)
        self.upper_encoder.build(x, self.latents[1], likelihood)
        self.upper.build(self.prior.features, self.latents[0])
        if starts_small(x):
            self.upper.net.temper(SMALL)
        self.decoder.build(x)

    def clusters(self, z: Tensor, w: Tensor) -> StraightThroughCode:
        """Return p(c | z, w), batch shape (*batch), for latents of as many rows."""
        components = self.upper(self.prior.embed(w))
        return StraightThroughCode(logits=components.log_prob(z.unsqueeze(-2)))

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            w = pyro.sample("w", self.prior())
            c = pyro.sample("c", OneHot(logits=self.uniform))
            z = pyro.sample("z", Chosen(c, self.upper(self.prior.embed(w))))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            w = pyro.sample("w", self.upper_encoder(x))
            z = pyro.sample("z", self.encoder(x))
            pyro.sample("c", self.clusters(z, w))
