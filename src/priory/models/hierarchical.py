"""Variational autoencoders with layers of latents: a chain of any length, and two levels."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import pyro
from torch import Tensor, nn
from torch.distributions import constraints

from priory.likelihoods import Likelihood
from priory.likelihoods.values import SMALL, starts_small
from priory.lookup import lookup, positive
from priory.models.pair import Amortised, Pair, build_prior
from priory.nets import ConditionalEncoder, Decoder, Encoder, Net, StochasticLayer, Wrapped
from priory.nets.decoder import Embedding
from priory.nets.table import net_of
from priory.posteriors import Posterior
from priory.priors import PRIORS, AggregatedPosterior, Prior


class Chain(Pair):
    r"""Layers of latents, each drawn given the one above, and the datum given the lowest.

    .. math:: z_L \sim p(z_L), \quad z_l \sim p(z_l \mid z_{l+1}), \quad x \sim p(x \mid z_1)

    Attributes:
        latents: Number of coordinates of each layer, z1 first.
        prior: p(zL).
        down: The maps between layers, that to z1 first.
        decoder: From z1 to the distribution of a datum.
    """

    latents: tuple[int, ...]
    prior: Prior
    down: nn.ModuleList
    decoder: Decoder

    @property
    def seen(self) -> list[Embedding]:
        """By what each layer is seen from below, z1 first: the prior is the last."""
        return [*self.down, self.prior]

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample(f"z{len(self.latents)}", self.prior())
            for n in range(len(self.down), 0, -1):
                z = pyro.sample(f"z{n}", self.down[n - 1](self.seen[n].embed(z)))
            pyro.sample("x", self.decoder(z), obs=x)


class HierarchicalVAE(Amortised, Chain):
    r"""A variational autoencoder with L layers of latents, z1 next to the datum and zL on top.

    .. math::
        z_L \sim p(z_L), \quad z_l \sim N(z_l; f_l(z_{l+1})), \quad x \sim p(x \mid f_0(z_1));
        \qquad z_1 \sim q(z_1 \mid g_1(x)), \quad z_{l+1} \sim q(z_{l+1} \mid g_{l+1}(z_l))

    Rezende, Mohamed and Wierstra, 2014, Stochastic backpropagation and approximate inference in
    deep generative models; with two layers, the second network of Burda, Grosse and Salakhutdinov,
    2016, Importance weighted autoencoders. With one layer it is the `VAE`.

    Args:
        prior: p(zL); an object or its name in `priory.priors.PRIORS`.
        encoder: g_1, from a datum to the features of z1; a net, any module, or a name.
        decoder: f_0, from z1 to the likelihood's features; likewise.
        inner: The maps between layers, both ways, each of which has its own weights; a net or a
            name.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latents: Number of coordinates of each layer, z1 first.
        posterior: The family of each layer in the guide, or its name in
            `priory.posteriors.POSTERIORS`; "auto" takes those of the layers' supports.

    Raises:
        ValueError: A number isn't positive, a name is unknown, a net's size doesn't fit, the family
            does not cover a layer's support, or the prior is made of posteriors (as a VampPrior
            is) above other layers, where q(zL | x) is no density in closed form: a `LadderVAE` has
            one.

    Example:
        >>> import torch
        >>> from priory.nets import MLP
        >>> pair = HierarchicalVAE(latents=(8, 4, 2), inner=MLP((16,), "tanh"))
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> [layer.features for layer in pair.down]
        [8, 4]
    """

    name = "hierarchical-vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        inner: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latents: Sequence[int] = (100, 50),
        posterior: Posterior | str = "auto",
    ) -> None:
        sizes = sizes_of("latents", latents)
        super().__init__(sizes[0])
        self.latents = sizes
        self.prior = lookup("prior", prior, PRIORS)
        if isinstance(self.prior, AggregatedPosterior) and len(latents) > 1:
            raise ValueError(
                f"{type(self.prior).__name__} is made of posteriors of the top layer given a datum "
                "alone, and this pair's reads the layer below: use LadderVAE (of any layers) or "
                "TwoLevelVAE, whose top reads the datum, or GaussianMixture"
            )
        # In a tuple a module is no submodule: it is what the maps are copied from.
        self._inner = (template(inner),)
        real, top = constraints.real, self.prior.support
        supports = [*(real for _ in latents[1:]), top]
        self.encoder = Encoder(encoder, supports[0], posterior=posterior)
        self.up = nn.ModuleList(
            StochasticLayer(self._map(), s, posterior=copy.deepcopy(self.posterior))
            for s in supports[1:]
        )
        self.down = nn.ModuleList(StochasticLayer(self._map()) for _ in latents[1:])
        self.decoder = Decoder(decoder, self.seen[0], likelihood)

    @property
    def inner(self) -> Net:
        """What the maps between layers were made from."""
        return self._inner[0]

    def _map(self) -> Net:
        return copy.deepcopy(self._inner[0])

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters for data (n, *shape)."""
        likelihood, sizes = self.decoder.choose(x), self.latents
        build_prior(self.prior, sizes[-1], x, likelihood, None if self.up else self.encoder)
        self.encoder.build(x, sizes[0], likelihood)
        build_layers(self.up, sizes[:-1], sizes[1:])
        if self.down:
            build_layers(self.down, [*sizes[1:-1], self.prior.features], sizes[:-1])
        self.decoder.build(x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z1", self.encoder(x))
            for n, layer in enumerate(self.up, 2):
                z = pyro.sample(f"z{n}", layer(z))


class TwoLevelVAE(Amortised):
    r"""Two levels of latents, which the datum is drawn from and recognised by together.

    .. math::
        z_2 \sim p(z_2), \quad z_1 \sim N(z_1; f(z_2)), \quad x \sim p(x \mid z_1, z_2);
        \qquad z_2 \sim q(z_2 \mid x), \quad z_1 \sim q(z_1 \mid x, z_2)

    Tomczak and Welling, 2018, VAE with a VampPrior, where p(z2) is a mixture of q(z2 | u) at
    learned pseudo-inputs u.

    Args:
        prior: p(z2); an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to the features of z2; a net, any module, or a name.
        lower_encoder: From a datum and z2 to the features of z1; likewise.
        upper: f, from z2 to the features of z1; likewise.
        decoder: From z1 and z2 to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latents: Number of coordinates of z1 and of z2.
        posterior: The family of both levels in the guide, or its name in
            `priory.posteriors.POSTERIORS`; "auto" takes those of the levels' supports.

    Raises:
        ValueError: A number isn't positive, there are not two of them, a name is unknown, a net's
            size doesn't fit, or the family does not cover a level's support.

    Example:
        >>> import torch
        >>> pair = TwoLevelVAE(prior="vamp", latents=(4, 2))
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.prior().event_shape
        torch.Size([2])
    """

    name = "two-level-vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        lower_encoder: nn.Module | str = "mlp",
        upper: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latents: Sequence[int] = (40, 40),
        posterior: Posterior | str = "auto",
    ) -> None:
        sizes = sizes_of("latents", latents)
        if len(sizes) != 2:
            raise ValueError(f"latents must be two numbers, of z1 and of z2, got {sizes}")
        super().__init__(sizes[1])
        self.latents = sizes
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = Encoder(encoder, self.prior.support, posterior=posterior)
        self.lower_encoder = ConditionalEncoder(
            lower_encoder,
            constraints.real,
            Embedded(self.prior),
            posterior=copy.deepcopy(self.posterior),
        )
        self.upper = StochasticLayer(upper)
        self.decoder = Decoder(decoder, self.upper, likelihood, given=Embedded(self.prior))

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters for data (n, *shape)."""
        likelihood = self.decoder.choose(x)
        build_prior(self.prior, self.latents[1], x, likelihood, self.encoder)
        self.encoder.build(x, self.latents[1], likelihood)
        self.lower_encoder.build(x, self.latents[0], likelihood)
        self.upper.build(self.prior.features, self.latents[0])
        if starts_small(x):
            self.upper.net.temper(SMALL)
        self.decoder.build(x)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            above = self.prior.embed(pyro.sample("z2", self.prior()))
            z = pyro.sample("z1", self.upper(above))
            pyro.sample("x", self.decoder(z, above), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            above = self.prior.embed(pyro.sample("z2", self.encoder(x)))
            pyro.sample("z1", self.lower_encoder(x, above))


class Embedded:
    """How wide a prior's latent is to the nets that read it, once the prior is built.

    Args:
        prior: Of the latent.
    """

    def __init__(self, prior: Prior) -> None:
        self._prior = prior

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return self._prior.features


def sizes_of(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of layers.

    Args:
        name: The argument's name, for the message.
        sizes: One for each layer, z1's first.

    Raises:
        ValueError: There is none, or one isn't positive.
    """
    if isinstance(sizes, int) or not len(sizes):
        raise ValueError(f"{name} must be a number for each layer, z1's first, got {sizes!r}")
    return tuple(positive(name, size) for size in sizes)


def template(net: nn.Module | str) -> Net:
    """Return a net that others are copied from.

    Raises:
        ValueError: The name is unknown, or it is a module whose size is fixed.
    """
    found = net_of(net)
    if isinstance(found, Wrapped) or found.built_for is not None:
        raise ValueError(
            "inner is copied for each map between layers, and takes the sizes of each: give a "
            f"net that is not built, such as MLP((100,)), or its name, got {type(net).__name__}"
        )
    return found


def build_layers(layers: Iterable[Any], inputs: Sequence[int], sizes: Sequence[int]) -> None:
    """Make the parameters of stochastic layers.

    Args:
        layers: The layers.
        inputs: How many numbers each reads.
        sizes: How many latent coordinates each has.
    """
    for layer, width, latent in zip(layers, inputs, sizes, strict=True):
        layer.build(width, latent)
