"""The variational information bottleneck: labels that are explained through a code of the data."""

import pyro
from torch import Tensor, nn

from priory.likelihoods import Normal
from priory.lookup import lookup, positive
from priory.models.class_prior import ClassPrior, Labels, averaged
from priory.models.pair import Amortised, Labelled, build_prior
from priory.nets import Encoder
from priory.nets.table import net_of
from priory.posteriors import Posterior
from priory.priors import PRIORS, Prior


class VIB(Amortised, Labelled):
    r"""The deep variational information bottleneck, a classifier through a stochastic code.

    .. math:: z \sim p(z), \quad y \sim \mathrm{Cat}(\mathrm{softmax} f(z)); \qquad
        z \sim q(z \mid g(x))

    Alemi, Fischer, Dillon and Murphy, 2017, Deep variational information bottleneck. By `ELBO` with
    a small beta, the price of a nat about the data:

    .. math:: E_q[-\log p(y \mid z)] + \beta KL(q(z \mid x) \| p(z)), \qquad
        I(z; y) \ge H(y) + E \log p(y \mid z), \quad I(z; x) \le E\,KL(q(z \mid x) \| p(z))

    The data x are what it is conditioned on, and have no density.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: Of the code; an object or its name in `priory.priors.PRIORS`.
        encoder: g, from a datum to the posterior's features; a net, any module, or a name.
        classifier: f, from the code to the labels' log-odds; likewise.
        latent: Number of the code's coordinates.
        draws: Codes over which `classify` averages p(y | z).
        posterior: The family of q(z | x), or its name in `priory.posteriors.POSTERIORS`; "auto"
            takes the one of the prior's support.

    Raises:
        ValueError: A number isn't positive, a name is unknown, a net's size doesn't fit, or the
            posterior's family does not cover the prior's support.

    Example:
        >>> import torch
        >>> pair = VIB(classes=3, latent=4)
        >>> pair.build(torch.zeros(9, 1, 8, 8), torch.arange(9) % 3)
        >>> pair.classify(torch.zeros(5, 1, 8, 8)).probs.shape
        torch.Size([5, 3])
    """

    name = "vib"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        classifier: nn.Module | str = "linear",
        latent: int = 64,
        draws: int = 12,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.labels = ClassPrior(classes)
        self.units = Normal("pixel")
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = Encoder(encoder, self.prior.support, posterior=posterior)
        self.classifier = net_of(classifier)
        self.draws = positive("draws", draws)

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parts' parameters; the encoder reads data in units of their columns."""
        self.labels.build(y)
        self.units.build(x)
        build_prior(self.prior, self.latent, x, self.units, self.encoder)
        self.encoder.build(x, self.latent, self.units)
        self.classifier.build((self.prior.features,), (self.labels.width,))

    def explain(self, z: Tensor) -> Labels:
        """Return p(y | z), batch shape (*batch), for codes (*batch, latent)."""
        return Labels(logits=self.classifier(self.prior.embed(z)))

    def classify(self, x: Tensor) -> Labels:
        """Return p(y | x), the mean of p(y | z) over `draws` codes, for data (*batch, *shape)."""
        return averaged(self.explain(self.encoder(x).sample((self.draws,))).logits)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("y", self.explain(z), obs=y)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x))
