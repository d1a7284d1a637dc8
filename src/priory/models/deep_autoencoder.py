"""The deep autoencoder, whose layers start as those of Boltzmann machines."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.harmonium import LINEAR, MEANS, Harmonium, Units
from priory.distributions.pixels import IndependentContinuousBernoulli
from priory.likelihoods import Bernoulli, ContinuousBernoulli, Likelihood
from priory.lookup import positive
from priory.models.pair import Pair
from priory.nets import MLP, Decoder, Encoder
from priory.priors import Normal
from priory.priors.boltzmann import Machine


def _grey(field: Tensor) -> TorchDistribution:
    return IndependentContinuousBernoulli(field, 1, validate_args=False)


def _grey_cumulant(field: Tensor) -> Tensor:
    found: Tensor = -_grey(field).log_prob(torch.zeros_like(field))
    return found


_GREY = Units(_grey, lambda x: x, _grey_cumulant)


class DeepAutoencoder(Pair):
    r"""An autoencoder of many logistic layers and a linear code, and the machines it starts from.

    .. math:: z = g(x), \quad g = g_L \circ \dots \circ g_1, \qquad x \sim p(x \mid f(z)), \quad
        f = f_1 \circ \dots \circ f_L

    Each pair of layers starts as a restricted Boltzmann machine: the n-th, `rbm1` next to the data,
    is trained by `Contrast(persistent=False, layer=n)` on the probabilities that g up to its layer
    gives, and unrolled,

    .. math:: g_n(h) = \sigma(c_n + W_n' h), \qquad f_n(h) = \sigma(b_n + W_n h)

    so that f has the transposed weights of g at first. A stage `Greedy` does both; the code is the
    last machine's layer of real units of variance 1, which has no :math:`\sigma`. Then all is
    trained by `Reconstruction()`, the cross entropy of binary data, with the machines frozen. They
    have no part in the density. Without them it is a deterministic `VAE` of the same nets.

    Hinton and Salakhutdinov, 2006, Reducing the dimensionality of data with neural networks.

    Args:
        layers: Widths of the layers between data and code, from the data's.
        latent: Number of coordinates of the code.
        likelihood: Of a datum: bernoulli or continuous-bernoulli; "auto" takes the one that fits
            the training data's values.

    Raises:
        ValueError: There is no layer, or a width isn't positive; at the first data, they are not
            between 0 and 1.

    Example:
        >>> pair = DeepAutoencoder(layers=(8, 5), latent=2)
        >>> pair.build((torch.rand(20, 1, 4, 4) < 0.3).float())
        >>> [tuple(pair.machine_of(n).weight.shape) for n in (1, 2, 3)]
        [(16, 8), (8, 5), (5, 2)]
    """

    name = "deep-autoencoder"
    centred = True

    def __init__(
        self,
        layers: Sequence[int] = (128, 64, 32),
        latent: int = 8,
        likelihood: Likelihood | str = "auto",
    ) -> None:
        if not layers:
            raise ValueError("layers must name the width of one layer or more, got none")
        super().__init__(latent)
        self.layers = tuple(positive("layers", width) for width in layers)
        self.prior = Normal()
        self.encoder = Encoder(MLP(self.layers, "sigmoid"), self.prior.support, point=True)
        self.decoder = Decoder(MLP(self.layers[::-1], "sigmoid"), self.prior, likelihood)
        for n in range(1, len(self.layers) + 2):
            self.add_module(f"rbm{n}", Machine())

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the nets, and the machines, the first at the data's means."""
        likelihood = self.decoder.choose(x)
        if not isinstance(likelihood, Bernoulli | ContinuousBernoulli):
            raise ValueError(
                f"a deep autoencoder starts from machines of data between 0 and 1, and needs the "
                f"likelihood bernoulli or continuous-bernoulli, got {likelihood.name}; scale the "
                "data to [0, 1], or take a VAE of such nets, deterministic=True"
            )
        super().make(x, y)
        widths = (prod(x.shape[1:]), *self.layers, self.latent)
        for n in range(1, len(widths)):
            centre = torch.full((widths[n - 1],), 0.5)
            self._own(n).build(widths[n - 1], widths[n], centre)
        self._own(n).average.zero_()  # the code's
        self._own(1).start(likelihood.bias(x).flatten())
        self._own(1).offset(x.mean(0).flatten())

    def machine_of(self, layer: int) -> Harmonium:
        """Return the machine of a layer, from 1, next to the data.

        Raises:
            ValueError: There is no such layer.
            RuntimeError: The pair is not built.
        """
        below = _GREY if layer == 1 and isinstance(self.likelihood, ContinuousBernoulli) else MEANS
        above = LINEAR if layer > len(self.layers) else MEANS
        return self._own(layer).harmonium(below, above)

    def pretraining(self, layer: int, x: Tensor) -> tuple[Machine, Harmonium, Tensor]:
        """Return the parameters of a layer's machine, the machine, and what it sees of data.

        Args:
            layer: From 1, next to the data.
            x: Data, (*batch, *shape).

        Raises:
            ValueError: There is no such layer.
        """
        return self._own(layer), self.machine_of(layer), self.seen(layer, x)

    @torch.no_grad()
    def seen(self, layer: int, x: Tensor) -> Tensor:
        """Return what a layer's machine sees, (*batch, width): the probabilities of those below.

        Args:
            layer: From 1, which sees the data.
            x: Data, (*batch, *shape).
        """
        found = self.flat(x)
        for linear in _layers(self.encoder)[: layer - 1]:
            found = linear(found).sigmoid()
        return found

    @torch.no_grad()
    def settle(self, layer: int, rows: Iterable[Tensor]) -> None:
        """Make a layer's nets those of its machine, and start the next one at what they give.

        Args:
            layer: From 1, next to the data.
            rows: Batches of the training rows.
        """
        machine = self.machine_of(layer)
        up, down = _layers(self.encoder)[layer - 1], _layers(self.decoder)[-layer]
        up.weight.copy_(machine.weight.mT)
        up.bias.copy_(machine.hidden)
        down.weight.copy_(machine.weight)
        down.bias.copy_(machine.visible)
        if layer <= len(self.layers):
            mean = mean_of(self.seen(layer + 1, x) for x in rows)
            self._own(layer + 1).start(mean.clamp(0.001, 0.999).logit())
            self._own(layer + 1).offset(mean)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x))

    def _own(self, layer: int) -> Machine:
        """Return the parameters of a layer's machine."""
        if layer > len(self.layers) + 1:
            raise ValueError(
                f"the deep autoencoder has {len(self.layers) + 1} machines, for {len(self.layers)} "
                f"layers and the code, got layer {layer}"
            )
        own = getattr(self, f"rbm{layer}")
        assert isinstance(own, Machine)  # noqa: S101
        return own


def mean_of(batches: Iterable[Tensor]) -> Tensor:
    """Return the mean of all rows of batches, (n, width) each."""
    total, count = torch.zeros(()), 0
    for batch in batches:
        total, count = total.to(batch) + batch.sum(0), count + len(batch)
    return total / count


def _layers(part: Any) -> list[nn.Linear]:
    """Return the linear layers of an encoder or a decoder, in their order."""
    hidden = [module for module in part.net.layers if isinstance(module, nn.Linear)]
    return [*hidden, part.net.last]
