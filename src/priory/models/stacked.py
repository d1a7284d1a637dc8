"""The stacked GAN: a generator for each level of an encoder that labels train."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.func import functional_call

from priory.likelihoods import Delta
from priory.lookup import lookup, positive
from priory.models.class_prior import ClassPrior, Labels
from priory.models.pair import Labelled
from priory.nets import Decoder, one_hot
from priory.nets.one_hot import beside
from priory.nets.table import net_of
from priory.priors import PRIORS, Prior


class StackedGAN(Labelled):
    r"""Two generators that undo an encoder level by level, from a label to a datum.

    .. math:: y, z_1, z_0 \sim p, \quad h = G_1(y, z_1), \quad x = G_0(f, z_0), \quad f = h;
        \qquad h = f = E_0(x), \quad y \sim E_1(h), \quad z_1 \sim Q_1(h), \quad z_0 \sim Q_0(x)

    Huang, Li, Poursaeed, Hopcroft and Belongie, 2017, Stacked generative adversarial networks. The
    games are on `h` and `x`; the conditional losses are those of finding a generated sample's `f`,
    by a squared cost, and its `y` again; the entropy losses those of finding its `z1` and `z0`, as
    Q is normal with unit variance.

    The encoder learns from labels alone, at the guide's own site `label`, and is a constant to all
    else, which gradients pass through but do not move: it would meet the generators halfway. So it
    is trained in the same run, and needs no stage of its own. Where the generators learn
    separately, the lower one reads the features f = E_0(x) of data while it is trained; evaluated,
    it reads the upper one's.

    Args:
        prior: Of the noise at each level; an object or its name in `priory.priors.PRIORS`.
        encoder: E_0, from a datum to the features, which a rectifier follows; a net, any module, or
            a name. E_1 is linear.
        upper: G_1, from a label and noise to the features, which a rectifier follows; likewise.
        lower: G_0, from features and noise to a datum; likewise.
        upper_inverse: Q_1, from features to the mean of the noise above; likewise.
        lower_inverse: Q_0, from a datum to the mean of the noise below; likewise.
        features: Number of features.
        latent: Number of coordinates of the noise at each level.
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        joint: Whether the lower generator reads the upper one's features in training too.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = StackedGAN(features=32, latent=8)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> pair.encode(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 32])
    """

    name = "stacked-gan"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        upper: nn.Module | str = "mlp",
        lower: nn.Module | str = "mlp",
        upper_inverse: nn.Module | str = "mlp",
        lower_inverse: nn.Module | str = "mlp",
        features: int = 64,
        latent: int = 16,
        classes: int | None = None,
        joint: bool = True,
    ) -> None:
        super().__init__(latent)
        self.features = positive("features", features)
        self.joint = joint
        self.labels = ClassPrior(classes)
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder, self.upper = net_of(encoder), net_of(upper)
        self.lower = Decoder(lower, self.prior, Delta(), given=features)
        self.upper_inverse, self.lower_inverse = net_of(upper_inverse), net_of(lower_inverse)

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parameters for data (n, *shape) with labels (n,)."""
        shape = tuple(x.shape[1:])
        self.labels.build(y)
        self.prior.build(self.latent, x)
        self.encoder.build(shape, (self.features,))
        self.classifier = nn.Linear(self.features, self.labels.width)
        self.upper.build((self.prior.features + self.labels.width,), (self.features,))
        self.lower.build(x)
        self.upper_inverse.build((self.features,), (self.latent,))
        self.lower_inverse.build(shape, (self.latent,))

    def read(self, x: Tensor) -> Tensor:
        """Return what the nets read of data (*batch, *shape)."""
        likelihood = self.likelihood
        return x if isinstance(likelihood, str) else likelihood.read(x)

    def encode(self, x: Tensor) -> Tensor:
        """Return E_0(x), (*batch, features), of an encoder that is a constant."""
        return torch.relu(_constant(self.encoder, self.read(x)))

    def generate(self, y: Tensor, z: Tensor) -> Tensor:
        """Return G_1(y, z), (*batch, features), for labels (*batch) and noise (*batch, latent)."""
        noise = self.prior.embed(z)
        return torch.relu(self.upper(beside(noise, one_hot(y, self.labels.width, noise))))

    def model(self, x: Tensor, y: Tensor) -> None:
        """Declare the generators.

        Args:
            x: Data, (batch, *shape).
            y: Their labels, (batch,).
        """
        with self.batch(x):
            y = pyro.sample("y", self.labels(), obs=y)
            z1 = pyro.sample("z1", self.prior())
            h = pyro.sample("h", dist.Delta(self.generate(y, z1), event_dim=1))
            given = h if self.joint or not self.training else self.encode(x)
            f = pyro.sample("f", dist.Delta(given, event_dim=1))
            z0 = pyro.sample("z0", self.prior())
            pyro.sample("x", self.lower(z0, f), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare the encoder, and the inverses of the noise, for data (batch, *shape)."""
        own = {"is_auxiliary": True}
        with self.batch(x):
            seen = self.classifier(torch.relu(self.encoder(self.read(x.detach()))))
            found = Labels(logits=seen)
            pyro.sample("label", found, obs=found.sample(), infer=own)  # its density alone is read
            h = self.encode(x)
            pyro.sample("f", dist.Delta(h, event_dim=1))
            h = pyro.sample("h", dist.Delta(h, event_dim=1))
            pyro.sample("y", Labels(logits=_constant(self.classifier, h)), infer=own)
            pyro.sample("z1", dist.Normal(self.upper_inverse(h), 1.0).to_event(1))
            pyro.sample("z0", dist.Normal(self.lower_inverse(self.read(x)), 1.0).to_event(1))


def _constant(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module whose parameters get no gradient; its input does."""
    fixed = {name: p.detach() for name, p in module.named_parameters()}
    out: Tensor = functional_call(module, fixed, (x,))
    return out
