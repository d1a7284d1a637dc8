"""Pairs that are conditioned on labels: the conditional VAE and the conditional GAN."""

from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.likelihoods import Delta, Likelihood
from priory.lookup import lookup
from priory.models.class_prior import ClassPrior
from priory.models.pair import Amortised, Labelled
from priory.nets import ConditionalEncoder, Decoder, one_hot
from priory.posteriors import Posterior
from priory.priors import PRIORS, AggregatedPosterior, Prior


class LabelledEncoder(ConditionalEncoder):
    """From a datum and its label to q(z | x, y).

    A label enters the net as an indicator vector beside the datum, an image's convolutions as
    planes.

    Args:
        net: From both to the family's features; a net, any module, or a name.
        support: Of the latent: a torch constraint.
        labels: What knows the number of classes once it is built.
        posterior: The family of q(z | x, y), or its name; "auto" takes the one of the support.
    """

    def __init__(
        self,
        net: nn.Module | str,
        support: Any,
        labels: ClassPrior,
        *,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(net, support, labels, posterior=posterior)

    def forward(self, x: Tensor, y: Tensor) -> TorchDistribution:  # type: ignore[override]
        """Return q(z | x, y), batch shape (*batch), for data (*batch, *shape), labels (*batch)."""
        self.check_built()
        return super().forward(x, one_hot(y, self.width, x))


def prior_beside_labels(prior: Prior | str) -> Prior:
    """Return the prior of a latent whose posterior reads the label too.

    Args:
        prior: An object or its name.

    Raises:
        ValueError: The name is unknown, or the prior is made of posteriors of data alone.
    """
    found: Prior = lookup("prior", prior, PRIORS)
    if isinstance(found, AggregatedPosterior):
        raise ValueError(
            f"the inputs of {type(found).__name__} have no labels, which this pair's posterior "
            "asks for: use GaussianMixture"
        )
    return found


class CVAE(Amortised, Labelled):
    r"""The conditional variational autoencoder.

    .. math:: y \sim p(y), \quad z \sim p(z), \quad x \sim p(x \mid f(z, y)); \qquad
        z \sim q(z \mid g(x, y))

    Sohn, Lee and Yan, 2015, Learning structured output representation using deep conditional
    generative models; Kingma et al., 2014, the model M2 with all labels seen. p(y) is the labels'
    frequency among the training rows, and z is independent of y, so that it holds what the label
    does not say.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum and its label to the posterior's features; a net, any module (which
            is given an image's label as planes), or a name.
        decoder: From a latent and a label to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.
        posterior: The family of q(z | x, y), or its name in `priory.posteriors.POSTERIORS`; "auto"
            takes the one of the prior's support.

    Raises:
        ValueError: A number isn't positive, a name is unknown, a net's size doesn't fit, or the
            posterior's family does not cover the prior's support.

    Example:
        >>> import torch
        >>> pair = CVAE(classes=3, latent=4)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.arange(10) % 3)
        >>> pair.encoder(torch.zeros(5, 1, 8, 8), torch.ones(5, dtype=torch.long)).event_shape
        torch.Size([4])
    """

    name = "cvae"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.labels = ClassPrior(classes)
        self.prior = prior_beside_labels(prior)
        self.encoder = LabelledEncoder(
            encoder, self.prior.support, self.labels, posterior=posterior
        )
        self.decoder = Decoder(decoder, self.prior, likelihood, given=self.labels)

    def model(self, x: Tensor, y: Tensor) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.labels(), obs=y)
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z, self.labels.indicators(y, z)), obs=x)

    def guide(self, x: Tensor, y: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x, y))


class ConditionalGAN(Labelled):
    r"""A generator that turns latents and labels into data, without a density.

    .. math:: y \sim p(y), \quad z \sim p(z), \quad x = f(z, y)

    Mirza and Osindero, 2014, Conditional generative adversarial nets. Its critic is to see the
    label: one that compares `x, y` awake with `x, y` asleep. The guide has no sites.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        generator: From a latent and a label to a datum; a net, any module, or a name.
        latent: Number of latent coordinates.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or the net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = ConditionalGAN(classes=3, latent=2)
        >>> pair.build(torch.zeros(10, 2), torch.arange(10) % 3)
        >>> pair.generator(torch.zeros(5, 2), torch.eye(3)[[0, 1, 2, 0, 1]]).mean.shape
        torch.Size([5, 2])
    """

    name = "conditional-gan"

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        generator: nn.Module | str = "mlp",
        latent: int = 16,
    ) -> None:
        super().__init__(latent)
        self.labels = ClassPrior(classes)
        self.prior = lookup("prior", prior, PRIORS)
        self.generator = Decoder(generator, self.prior, Delta(), given=self.labels)

    def model(self, x: Tensor, y: Tensor) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.labels(), obs=y)
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.generator(z, self.labels.indicators(y, z)), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: there is no recognition of a latent from a datum."""
        self.register(x)
