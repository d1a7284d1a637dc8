"""Pairs that are conditioned on labels: the conditional VAE and the conditional GAN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod, sqrt
from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.models.labels import Labels, beside, count_classes, label_frequencies, with_planes
from priory.models.opening import is_built, likelihood_built, plate, register
from priory.models.parts import build_decoder, build_encoder, likelihood_named, prior_of, suited
from priory.names import positive
from priory.nets import (
    Delta,
    Likelihood,
    Net,
    one_hot,
    posterior_for,
)
from priory.nets.base import Shape
from priory.nets.table import net_of
from priory.priors import Prior, VampPrior


class _Conditional(nn.Module, ABC):
    """What the two pairs share: the prior of the latent, and the law of the labels.

    Args:
        classes: Number of labels.
        prior: Of the latent.
        latent: Number of latent coordinates.
    """

    log_frequencies: Tensor
    likelihood: Likelihood | str

    def __init__(self, classes: int | None, prior: Prior | str, latent: int) -> None:
        super().__init__()
        self.classes: Any = None if classes is None else positive("classes", classes)
        self.latent = positive("latent", latent)
        self.prior = prior_of(prior)
        if isinstance(self.prior, VampPrior):
            raise ValueError(
                "a VampPrior's pseudo-inputs have no labels, which this pair's posterior asks for: "
                "use GaussianMixture"
            )
        self.shape: Shape | None = None

    def build(self, x: Tensor, y: Tensor | None = None) -> None:
        """Make the parameters for data like `x`; a second call does nothing.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.
            y: Labels of all training rows, whose frequencies become p(y).

        Raises:
            ValueError: There are no labels, one is out of range or none has it, the data don't suit
                the likelihood, a net's size doesn't fit, or the pair is built for another shape.
        """
        if is_built(self, x):
            return
        shape = tuple(x.shape[1:])
        self.classes = count_classes(self.classes, y)
        frequencies = label_frequencies(y, self.classes)
        self.likelihood = suited(self.likelihood, x)
        self.prior.build(self.latent, x)
        self.make(x, self.likelihood)
        self.register_buffer("log_frequencies", frequencies.log())
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    @abstractmethod
    def make(self, x: Tensor, likelihood: Likelihood) -> None:
        """Make the nets for data (n, *shape)."""

    def decoding(self, net: Net, z: Tensor, y: Tensor) -> TorchDistribution:
        """Return p(x given z, y), batch shape (*batch): the likelihood of a net's features."""
        likelihood = likelihood_built(self)
        features = self.prior.embed(z)
        # As large as the latent's coordinates, so that a net that is just drawn hears the label.
        labels = one_hot(y, self.classes, features) * sqrt(self.classes)
        return likelihood(net(beside(features, labels)))

    def label_law(self) -> Labels:
        """Return p(y): the frequencies of the labels among the training rows."""
        return Labels(logits=self.log_frequencies)


class CVAE(_Conditional):
    r"""The conditional variational autoencoder.

    .. math:: y \sim p(y), \quad z \sim p(z), \quad x \sim p(x \mid f(z, y)); \qquad
        z \sim q(z \mid g(x, y))

    Sohn, Lee and Yan, 2015, Learning structured output representation using deep conditional
    generative models; Kingma et al., 2014, the model M2 with all labels seen. p(y) is the labels'
    frequency among the training rows, and z is independent of y, so that it holds what the label
    does not say. A label enters a net as an indicator vector beside the others, an image's
    convolutions as planes.

    Args:
        classes: Number of labels; y is a whole number from 0. None takes the training rows'.
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum and its label to the posterior's features; a net, any module (which
            is given an image's label as planes), or a name.
        decoder: From a latent and a label to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = CVAE(classes=3, latent=4)
        >>> pair.build(torch.zeros(10, 1, 8, 8), torch.arange(10) % 3)
        >>> pair.likelihood_of(torch.zeros(5, 4), torch.ones(5, dtype=torch.long)).event_shape
        torch.Size([1, 8, 8])
    """

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
    ) -> None:
        super().__init__(classes, prior, latent)
        self.encoder, self.decoder = net_of(encoder), net_of(decoder)
        self.likelihood = likelihood_named(likelihood)

    def make(self, x: Tensor, likelihood: Likelihood) -> None:
        """Make encoder and decoder for data (n, *shape)."""
        shape = tuple(x.shape[1:])
        self.head = posterior_for(self.prior.support)
        self.images = len(shape) == 3 and not self.encoder.flat
        width = shape[0] + self.classes if self.images else prod(shape) + self.classes
        inputs = (width, *shape[1:]) if self.images else (width,)
        build_encoder(self.encoder, inputs, (self.head.params, self.latent), x)
        build_decoder(self.decoder, self.prior.features + self.classes, likelihood, x)

    def posterior(self, x: Tensor, y: Tensor) -> TorchDistribution:
        """Return q(z given x, y), batch shape (*batch), for data (*batch, *shape)."""
        likelihood = likelihood_built(self)
        labels = one_hot(y, self.classes, x)
        x = likelihood.read(x)
        event = len(self.shape or ())
        if self.images:
            joined = with_planes(x, labels)
        else:
            joined = beside(x.flatten(x.dim() - event) if event else x.unsqueeze(-1), labels)
        return self.head(self.encoder(joined))

    def likelihood_of(self, z: Tensor, y: Tensor) -> TorchDistribution:
        """Return p(x given z, y), batch shape (*batch), for latents (*batch, latent)."""
        return self.decoding(self.decoder, z, y)

    def model(self, x: Tensor, y: Tensor) -> None:
        """Declare p(x, z, y) for a batch of data (batch, *shape) with labels (batch)."""
        with plate("cvae", self, x):
            y = pyro.sample("y", self.label_law(), obs=y)
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(z, y), obs=x, infer=own)

    def guide(self, x: Tensor, y: Tensor) -> None:
        """Declare q(z given x, y) for a batch of data (batch, *shape) with labels (batch)."""
        with plate("cvae", self, x):
            pyro.sample("z", self.posterior(x, y))


class ConditionalGAN(_Conditional):
    r"""A generator that turns latents and labels into data, without a density.

    .. math:: y \sim p(y), \quad z \sim p(z), \quad x = f(z, y)

    Mirza and Osindero, 2014, Conditional generative adversarial nets. Its critic is to see the
    label: one that compares `x, y` awake with `x, y` asleep. The guide has no sites.

    Args:
        classes: Number of labels; y is a whole number from 0. None takes the training rows'.
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        generator: From a latent and a label to a datum; a net, any module, or a name.
        latent: Number of latent coordinates.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or the net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = ConditionalGAN(classes=3, latent=2)
        >>> pair.build(torch.zeros(10, 2), torch.arange(10) % 3)
        >>> pair.likelihood_of(torch.zeros(5, 2), torch.ones(5, dtype=torch.long)).mean.shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        classes: int | None = None,
        prior: Prior | str = "normal",
        generator: nn.Module | str = "mlp",
        latent: int = 16,
    ) -> None:
        super().__init__(classes, prior, latent)
        self.generator = net_of(generator)
        self.likelihood = Delta()

    def make(self, x: Tensor, likelihood: Likelihood) -> None:
        """Make the generator for data (n, *shape)."""
        build_decoder(self.generator, self.prior.features + self.classes, likelihood, x)

    def likelihood_of(self, z: Tensor, y: Tensor) -> TorchDistribution:
        """Return the point mass at f(z, y), batch shape (*batch), for latents (*batch, latent)."""
        return self.decoding(self.generator, z, y)

    def model(self, x: Tensor, y: Tensor) -> None:
        """Declare p(x, z, y) for a batch of data (batch, *shape) with labels (batch)."""
        with plate("conditional_gan", self, x):
            y = pyro.sample("y", self.label_law(), obs=y)
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(z, y), obs=x, infer=own)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: there is no recognition of a latent from a datum."""
        self.build(x)
        register("conditional_gan", self)
