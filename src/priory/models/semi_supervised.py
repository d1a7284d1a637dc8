"""Pairs that learn from few labels: the class as a latent that some rows show."""

import pyro
from torch import Tensor, nn

from priory.distributions.categorical import OneHot, StraightThroughCode
from priory.likelihoods import Likelihood
from priory.lookup import lookup, positive
from priory.models.class_prior import ClassPrior, Labels, averaged
from priory.models.conditional import LabelledEncoder, prior_beside_labels
from priory.models.pair import Labelled
from priory.nets import Decoder, Encoder
from priory.nets.classifier import Classifier
from priory.nets.table import net_of
from priory.priors import PRIORS, Prior


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
