"""The stacked GAN: a generator for each level of an encoder that labels train."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.func import functional_call

from priory.models.labels import Labels, beside, count_classes, label_frequencies
from priory.models.opening import is_built, plate
from priory.models.parts import prior_of
from priory.names import positive
from priory.nets import Delta, one_hot
from priory.nets.base import Shape
from priory.nets.table import net_of
from priory.priors import Prior


class StackedGAN(nn.Module):
    r"""Two generators that undo an encoder level by level, from a label to a datum.

    .. math:: y, z_1, z_0 \sim p, \quad h = G_1(y, z_1), \quad x = G_0(f, z_0), \quad f = h;
        \qquad h = f = E_0(x), \quad y \sim E_1(h), \quad z_1 \sim Q_1(h), \quad z_0 \sim Q_0(x)

    Huang, Li, Poursaeed, Hopcroft and Belongie, 2017, Stacked generative adversarial networks. The
    games are on `h` and `x`; the conditional losses are those of finding the dream's `f`, by a
    squared cost, and its `y` again; the entropy losses those of finding its `z1` and `z0`, as Q is
    normal with unit variance.

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
        classes: Number of labels; y is a whole number from 0. None takes the training rows'.
        joint: Whether the lower generator reads the upper one's features in training too.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = StackedGAN(features=32, latent=8)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> pair.encode(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 32])
    """

    log_frequencies: Tensor

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
        super().__init__()
        self.features = positive("features", features)
        self.latent = positive("latent", latent)
        self.classes: Any = None if classes is None else positive("classes", classes)
        self.prior = prior_of(prior)
        self.encoder, self.upper, self.lower, self.upper_inverse, self.lower_inverse = (
            net_of(net) for net in (encoder, upper, lower, upper_inverse, lower_inverse)
        )
        self.joint = joint
        self.likelihood = Delta()
        self.shape: Shape | None = None

    def build(self, x: Tensor, y: Tensor | None = None) -> None:
        """Make the parameters for data like `x`; a second call does nothing.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.
            y: Labels of all training rows, whose frequencies become p(y).

        Raises:
            ValueError: There are no labels, one is out of range or none has it, a
                net's size doesn't fit, or the pair is built for another shape.
        """
        if is_built(self, x):
            return
        shape = tuple(x.shape[1:])
        self.classes = count_classes(self.classes, y)
        frequencies = label_frequencies(y, self.classes)
        self.prior.build(self.latent, x)
        noise = self.prior.features
        self.encoder.build(shape, (self.features,))
        self.classifier = nn.Linear(self.features, self.classes)
        self.upper.build((noise + self.classes,), (self.features,))
        self.lower.build((noise + self.features,), shape)
        self.upper_inverse.build((self.features,), (self.latent,))
        self.lower_inverse.build(shape, (self.latent,))
        self.likelihood.build(x)
        self.likelihood.span(x, getattr(self.lower, "output", "linear"))
        self.lower.set_bias(self.likelihood.scaled(x).mean(0))
        self.register_buffer("log_frequencies", frequencies.log())
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    def encode(self, x: Tensor) -> Tensor:
        """Return E_0(x), (*batch, features), of an encoder that is a constant."""
        return torch.relu(_constant(self.encoder, self.likelihood.read(x)))

    def generate(self, y: Tensor, z: Tensor) -> Tensor:
        """Return G_1(y, z), (*batch, features), for labels (*batch) and noise (*batch, latent)."""
        noise = self.prior.embed(z)
        return torch.relu(self.upper(beside(noise, one_hot(y, self.classes, noise))))

    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """Return G_0(f, z), (*batch, *shape), for (*batch, features) and noise (*batch, latent)."""
        made = self.lower(beside(self.prior.embed(z), f))
        value: Tensor = self.likelihood(made.unsqueeze(-1 - len(self.shape or ()))).mean
        return value

    def model(self, x: Tensor, y: Tensor) -> None:
        """Declare the generators.

        Args:
            x: Data, (batch, *shape).
            y: Their labels, (batch,).
        """
        with plate("stacked", self, x):
            y = pyro.sample("y", Labels(logits=self.log_frequencies), obs=y)
            z1 = pyro.sample("z1", self.prior())
            h = pyro.sample("h", dist.Delta(self.generate(y, z1), event_dim=1))
            given = h if self.joint or not self.training else self.encode(x)
            f = pyro.sample("f", dist.Delta(given, event_dim=1))
            z0 = pyro.sample("z0", self.prior())
            made = self.decode(f, z0)
            point = dist.Delta(made, event_dim=len(self.shape or ()))
            pyro.sample("x", point, obs=x, infer={"likelihood": self.likelihood})

    def guide(self, x: Tensor) -> None:
        """Declare the encoder, and the inverses of the noise, for data (batch, *shape)."""
        own = {"is_auxiliary": True}
        with plate("stacked", self, x):
            seen = self.classifier(torch.relu(self.encoder(self.likelihood.read(x.detach()))))
            law = Labels(logits=seen)
            pyro.sample("label", law, obs=law.sample(), infer=own)  # of which the law alone is read
            h = self.encode(x)
            pyro.sample("f", dist.Delta(h, event_dim=1))
            h = pyro.sample("h", dist.Delta(h, event_dim=1))
            pyro.sample("y", Labels(logits=_constant(self.classifier, h)), infer=own)
            pyro.sample("z1", dist.Normal(self.upper_inverse(h), 1.0).to_event(1))
            pyro.sample(
                "z0", dist.Normal(self.lower_inverse(self.likelihood.read(x)), 1.0).to_event(1)
            )


def _constant(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module whose parameters get no gradient; its input does."""
    fixed = {name: p.detach() for name, p in module.named_parameters()}
    out: Tensor = functional_call(module, fixed, (x,))
    return out
