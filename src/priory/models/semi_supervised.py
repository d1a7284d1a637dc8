"""Pairs that learn from few labels: the class as a latent that some rows show."""

from collections.abc import Callable, Sequence

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.categorical import OneHot, StraightThroughCode
from priory.likelihoods import Likelihood
from priory.likelihoods.values import SMALL
from priory.lookup import lookup, positive
from priory.models.class_prior import ClassPrior, Labels, averaged
from priory.models.conditional import LabelledEncoder, prior_beside_labels
from priory.models.hierarchical import sizes_of
from priory.models.pair import Labelled, build_prior
from priory.nets import Decoder, Encoder, StochasticLayer
from priory.nets.classifier import Classifier
from priory.nets.one_hot import beside
from priory.nets.table import net_of
from priory.priors import PRIORS, Normal, Prior


class M2(Labelled):
    r"""The generative semi-supervised model, in which the class is a latent beside the style.

    .. math:: y \sim p(y), \quad z \sim p(z), \quad x \sim p(x \mid f(z, y)); \qquad
        y \sim \mathrm{Cat}(\mathrm{softmax}\, h(x)), \quad z \sim q(z \mid g(x, y))

    Kingma, Rezende, Mohamed and Welling, 2014, Semi-supervised learning with deep generative
    models, the model M2; with the prior `StickBreaking`, the SB-DGM of Nalisnick and Smyth, 2017,
    Stick-breaking variational autoencoders. By `LabelledELBO`, in which labels are seen where there
    are any and y is summed where not, plus a weight times `Classification`. Both programs read x
    alone, so that it is judged by the bound on log p(x) as any other pair, and q(y | x) as a
    classifier by its `classify`. p(y) is the frequency of the labels that are seen in training.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: p(z); an object or its name in `priory.priors.PRIORS`.
        encoder: g, from a datum and its label to the features of z; a net, any module (which is
            given an image's label as planes), or a name.
        classifier: h, from a datum to the labels' log-odds; likewise.
        decoder: f, from a latent and a label to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of coordinates of z.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = M2(classes=3, latent=2)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.tensor([0, 1, 2] + 7 * [-1]))
        >>> pair.classify(torch.zeros(5, 1, 8, 8)).probs.shape
        torch.Size([5, 3])
    """

    name = "m2"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        classifier: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
    ) -> None:
        super().__init__(latent)
        self.labels = ClassPrior(classes, partly=True)
        self.prior = prior_beside_labels(prior)
        self.classifier = Classifier(classifier, self.labels)
        self.encoder = LabelledEncoder(encoder, self.prior.support, self.labels)
        self.decoder = Decoder(decoder, self.prior, likelihood, given=self.labels)

    def classify(self, x: Tensor) -> Labels:
        """Return q(y | x), batch shape (*batch), for data (*batch, *shape)."""
        return Labels(logits=self.classifier(x))

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.labels())
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z, self.labels.indicators(y, z)), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.classify(x))
            pyro.sample("z", self.encoder(x, y))


class M1(Labelled):
    r"""A variational autoencoder, and a classifier that reads fresh draws of its codes.

    .. math:: z \sim p(z), \quad x \sim p(x \mid f(z)), \quad
        y \sim \mathrm{Cat}(\mathrm{softmax}\, h(z)); \qquad
        z \sim q(z \mid g(x)), \quad y \sim \mathrm{Cat}(\mathrm{softmax}\, h(z))

    Kingma, Rezende, Mohamed and Welling, 2014, Semi-supervised learning with deep generative
    models, the model M1. The classifier takes the codes as constants, so that labels move nothing
    but the classifier; y has the same distribution in both programs, so that every bound is the
    VAE's. By any bound plus `Classification`, which learn beside each other and not one after the
    other. x does not depend on y: to draw data of a class, take `M2`.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: p(z); an object or its name in `priory.priors.PRIORS`.
        encoder: g, from a datum to the posterior's features; a net, any module, or a name.
        classifier: h, from the code to the labels' log-odds; likewise.
        decoder: f, from the code to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of the code's coordinates.
        draws: Codes over which `classify` averages p(y | z).

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = M1(classes=3, latent=2)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.tensor([0, 1, 2] + 7 * [-1]))
        >>> pair.classify(torch.zeros(5, 1, 8, 8)).probs.shape
        torch.Size([5, 3])
    """

    name = "m1"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        classifier: nn.Module | str = "linear",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        draws: int = 12,
    ) -> None:
        super().__init__(latent)
        self.labels = ClassPrior(classes, partly=True)
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = Encoder(encoder, self.prior.support)
        self.classifier = net_of(classifier)
        self.decoder = Decoder(decoder, self.prior, likelihood)
        self.draws = positive("draws", draws)

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parts' parameters."""
        super().make(x, y)
        self.classifier.build((self.prior.features,), (self.labels.width,))

    def explain(self, z: Tensor) -> Tensor:
        """Return log p(y | z) up to a constant, (*batch, classes), for codes (*batch, latent)."""
        logits: Tensor = self.classifier(self.prior.embed(z).detach())
        return logits

    def classify(self, x: Tensor) -> Labels:
        """Return p(y | x), the mean of p(y | z) over `draws` codes, for data (*batch, *shape)."""
        return averaged(self.explain(self.encoder(x).sample((self.draws,))).log_softmax(-1))

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z), obs=x)
            pyro.sample("y", OneHot(logits=self.explain(z)))

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.encoder(x))
            pyro.sample("y", StraightThroughCode(logits=self.explain(z)))


class M1M2(Labelled):
    r"""The model M2 of the codes that M1 finds, as one model of the data with two layers.

    .. math:: y \sim p(y), \quad z_2 \sim p(z_2), \quad z_1 \sim N(z_1; f_2(z_2, y)), \quad
        x \sim p(x \mid f_1(z_1)); \qquad
        z_1 \sim q(z_1 \mid g_1(x)), \quad y \sim \mathrm{Cat}(\mathrm{softmax}\, h(z_1)), \quad
        z_2 \sim q(z_2 \mid g_2(z_1, y))

    Kingma, Rezende, Mohamed and Welling, 2014, Semi-supervised learning with deep generative
    models, the model M1+M2. It is trained in two stages: `Of("m1", ELBO())` trains the outer layer
    as a VAE whose prior is N(0, I); then, with that layer frozen, `Of("m2", LabelledELBO() + ...)`
    explains its codes, drawn afresh in every batch. Both programs are those of the whole: every
    bound on log p(x) is one on the density of the stacked model, where p(z1) is no longer N(0, I)
    but what y and z2 make of it, and with the layer frozen the second stage raises it:

    .. math:: \log p(x) \ge E_{q(z_1 \mid x)} \Bigl[\log \frac{p(x \mid z_1)}{q(z_1 \mid x)}
        + \log p(z_1)\Bigr], \qquad
        \log p(z_1) \ge \sum_y q(y \mid z_1) \, E_{q(z_2 \mid z_1, y)}
        \log \frac{p(y) \, p(z_2) \, p(z_1 \mid y, z_2)}{q(y \mid z_1) \, q(z_2 \mid z_1, y)}

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: p(z2); an object or its name in `priory.priors.PRIORS`.
        encoder: g1, from a datum to the features of z1; a net, any module, or a name.
        decoder: f1, from z1 to the likelihood's features; likewise.
        classifier: h, from z1 to the labels' log-odds; likewise.
        upper_encoder: g2, from z1 and the label to the features of z2; likewise.
        upper: f2, from z2 and the label to the features of z1; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latents: Number of coordinates of z1 and of z2.
        draws: Codes z1 over which `classify` averages q(y | z1).

    Raises:
        ValueError: A number isn't positive, there are not two latents, a name is unknown, or a
            net's size doesn't fit.

    Example:
        >>> pair = M1M2(classes=3, latents=(4, 2))
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.tensor([0, 1, 2] + 7 * [-1]))
        >>> pair.classify(torch.zeros(5, 1, 8, 8)).probs.shape
        torch.Size([5, 3])
    """

    name = "m1-m2"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        classifier: nn.Module | str = "mlp",
        upper_encoder: nn.Module | str = "mlp",
        upper: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latents: Sequence[int] = (50, 50),
        draws: int = 12,
    ) -> None:
        sizes = sizes_of("latents", latents)
        if len(sizes) != 2:
            raise ValueError(f"latents must be two numbers, of z1 and of z2, got {sizes}")
        super().__init__(sizes[0])
        self.latents = sizes
        self.labels = ClassPrior(classes, partly=True)
        self.codes, self.prior = Normal(), prior_beside_labels(prior)
        self.encoder = Encoder(encoder, constraints.real)
        self.decoder = Decoder(decoder, self.codes, likelihood)
        self.classifier = net_of(classifier)
        self.upper_encoder = StochasticLayer(upper_encoder, self.prior.support)
        self.upper = StochasticLayer(upper)
        self.draws = positive("draws", draws)

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parts' parameters."""
        likelihood, (codes, latent) = self.decoder.choose(x), self.latents
        self.labels.build(y)
        self.codes.build(codes, x)
        build_prior(self.prior, latent, x, likelihood, None)
        self.encoder.build(x, codes, likelihood)
        self.decoder.build(x)
        self.classifier.build((codes,), (self.labels.width,))
        self.upper_encoder.build(codes + self.labels.width, latent)
        self.upper.build(self.prior.features + self.labels.width, codes)
        for layer in (self.upper_encoder, self.upper):  # p(z1) begins near the N(0, I) of M1
            layer.net.temper(SMALL)

    def classify(self, x: Tensor) -> Labels:
        """Return q(y | x), the mean of q(y | z1) over `draws` codes, for data (*batch, *shape)."""
        return averaged(self.explain(self.encoder(x).sample((self.draws,))).logits)

    def explain(self, z1: Tensor) -> Labels:
        """Return q(y | z1), batch shape (*batch), for codes (*batch, latents[0])."""
        return Labels(logits=self.classifier(z1))

    def below(self, z2: Tensor, y: Tensor) -> TorchDistribution:
        """Return p(z1 | z2, y), batch shape (*batch)."""
        return self.upper(beside(self.prior.embed(z2), self.labels.indicators(y, z2)))

    def above(self, z1: Tensor, y: Tensor) -> TorchDistribution:
        """Return q(z2 | z1, y), batch shape (*batch)."""
        return self.upper_encoder(beside(z1, self.labels.indicators(y, z1)))

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.labels())
            z2 = pyro.sample("z2", self.prior())
            z1 = pyro.sample("z1", self.below(z2, y))
            pyro.sample("x", self.decoder(z1), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            z1 = pyro.sample("z1", self.encoder(x))
            y = pyro.sample("y", self.explain(z1))
            pyro.sample("z2", self.above(z1, y))

    @property
    def m1(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """The programs of the outer layer by itself, a VAE: model and guide."""
        return self.outer_model, self.outer_guide

    @property
    def m2(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """The programs of the codes as data, M2: model and guide."""
        return self.inner_model, self.inner_guide

    def outer_model(self, x: Tensor) -> None:
        """Declare p(x, z1) with z1 from N(0, I), of a batch of data (batch, *shape)."""
        with self.batch(x):
            z1 = pyro.sample("z1", self.codes())
            pyro.sample("x", self.decoder(z1), obs=x)

    def outer_guide(self, x: Tensor) -> None:
        """Declare q(z1 | x) of a batch of data (batch, *shape)."""
        with self.batch(x):
            pyro.sample("z1", self.encoder(x))

    def inner_model(self, x: Tensor, z1: Tensor) -> None:
        """Declare p(z1, y, z2) of the codes z1 (batch, latents[0]) of a batch."""
        with self.batch(x):
            y = pyro.sample("y", self.labels())
            z2 = pyro.sample("z2", self.prior())
            pyro.sample("z1", self.below(z2, y), obs=z1)

    def inner_guide(self, x: Tensor, z1: Tensor) -> None:
        """Declare q(y, z2 | z1) of the codes z1 (batch, latents[0]) of a batch."""
        with self.batch(x):
            y = pyro.sample("y", self.explain(z1))
            pyro.sample("z2", self.above(z1, y))
