"""Chains that generate by denoising: the denoising autoencoder and the generative stochastic net.

They define no density of a datum: what is learned is one step, and the model is where the steps
lead.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn

from priory.distributions.drawn import Drawn
from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Bernoulli, ContinuousBernoulli, Likelihood
from priory.lookup import named, positive
from priory.models.pair import Pair
from priory.nets import Decoder, Net
from priory.nets.base import ACTIVATIONS, start_layer
from priory.part import Shape

_CORRUPTIONS = dict.fromkeys(("auto", "salt-and-pepper", "gaussian"))
_NO_DENSITY = (
    "z has no density: it is where a chain of corrupting and denoising leads, which has no formula"
)

Hidden = tuple[Tensor, ...]
"""What a chain remembers beside its visible state, (*batch, width) each."""


class Step(NamedTuple):
    """One step of a chain.

    Args:
        x: The visible state before, (*batch, *shape).
        z: What the next is drawn from, (*batch, *event).
        cleaner: p(x | z), the distribution of the next.
    """

    x: Tensor
    z: Tensor
    cleaner: TorchDistribution


class Vector:
    """An array of fixed size as a decoder reads it: as it is.

    Args:
        features: Numbers of one array, None before they are known.
    """

    def __init__(self, features: int | None = None) -> None:
        self.size = features

    @property
    def features(self) -> int:
        """How many numbers there are."""
        assert self.size is not None  # noqa: S101
        return self.size

    def embed(self, z: Tensor) -> Tensor:
        """Return arrays (*batch, features)."""
        return z


class DenoisingChain(Pair):
    r"""A Markov chain that corrupts its state and draws a cleaner one, over and over.

    .. math:: \tilde x_t \sim C(\tilde x \mid x_{t-1}), \quad x_t \sim p(x \mid \tilde x_t)

    If p(x | x~) is right for data x and their corruptions x~, the chain's stationary distribution
    is that of the data (Bengio, Yao, Alain and Vincent, 2013, Generalized denoising auto-encoders
    as generative models). The latent `z` is what a datum is drawn from: in the model that of the
    chain's last step, in the guide that of a corrupted datum. It has no density in the model, so
    that there is no bound; `Denoise` trains it.

    A chain of one's own has a `decoder` of z and writes `advance`.

    Args:
        corruption: C: "salt-and-pepper", a fair coin of 0 and 1 in the place of each number with
            some probability; "gaussian"; "auto" takes the first for data in [0, 1].
        level: That probability, or the standard deviation, in units of the data's own.
        burn_in: Steps from the start to a sample.

    Raises:
        ValueError: The corruption is unknown, or a number is out of range.
    """

    decoder: Decoder
    mean: Tensor
    sd: Tensor

    def __init__(self, corruption: str, level: float, burn_in: int) -> None:
        super().__init__()
        self.corruption = corruption
        named("corruption", corruption, _CORRUPTIONS)
        if not 0 < level < math.inf:
            raise ValueError(f"level must be positive, got {level}: without corruption no chain")
        self.level = level
        self.burn_in = positive("burn_in", burn_in)

    @property
    def spiky(self) -> bool:
        """Whether the corruption is salt and pepper."""
        if self.corruption != "auto":
            return self.corruption == "salt-and-pepper"
        return isinstance(self.head, Bernoulli | ContinuousBernoulli)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters, and keep where chains start.

        Raises:
            ValueError: The corruption does not suit the data, or its level not the corruption.
        """
        self.decoder.choose(x)
        if self.spiky and self.level > 1:
            raise ValueError(f"level is a probability, at most 1, got {self.level}")
        if self.spiky and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                "salt and pepper are 0 and 1, and the data go beyond: scale them to [0, 1], or "
                "take corruption='gaussian'"
            )
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("sd", x.std(0, correction=0))
        self.make_step(x)

    @abstractmethod
    def make_step(self, x: Tensor) -> None:
        """Make the parameters of one step for data (n, *shape), whose likelihood is built."""

    @abstractmethod
    def advance(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Corrupt a state, and return z, from which the next is drawn, and what is remembered.

        Args:
            x: Visible states, (*batch, *shape).
            hidden: What `advance` returned a step before; () at the start.
        """

    @property
    @abstractmethod
    def event(self) -> Shape:
        """The shape of z."""

    def corrupt(self, x: Tensor) -> TorchDistribution:
        """Return C(x~ | x), for x (*batch, *shape); of greyscale salt and pepper draws alone."""
        dims = self.mean.dim()
        if not self.spiky:
            unit = getattr(self.head, "unit", torch.ones((), dtype=x.dtype, device=x.device))
            return IndependentNormal(x, (self.level * unit).log(), dims)
        kept, salt = 1 - self.level, self.level / 2
        if isinstance(self.head, Bernoulli):
            return IndependentBernoulli(torch.logit(kept * x + salt), dims)

        def draw(shape: Size) -> Tensor:
            full = shape + x.shape[x.dim() - dims :]
            noisy, coin = (torch.rand(full, dtype=x.dtype, device=x.device) for _ in range(2))
            return torch.where(noisy < self.level, (coin < 0.5).to(x.dtype), x.expand(full))

        batch = x.shape[: x.dim() - dims]
        return Drawn(
            draw, self.mean.shape, "between 0 and 1 salt and pepper have no density"
        ).expand(batch)

    def chain(self, x: Tensor) -> Iterator[Step]:
        """Yield the steps of a chain, without end.

        Visible states are draws, and constants: no gradient flows through them.

        Args:
            x: Where it starts, (*batch, *shape).
        """
        hidden: Hidden = ()
        while True:
            z, hidden = self.advance(x, hidden)
            cleaner = self.decoder(z)
            yield Step(x, z, cleaner)
            x = cleaner.sample()

    def walk(self, x: Tensor, steps: int) -> Iterator[TorchDistribution]:
        """Yield p(x | z_1), ..., p(x | z_k) of the first k steps of a chain.

        Args:
            x: Where it starts, (*batch, *shape).
            steps: k.
        """
        return (step.cleaner for step in itertools.islice(self.chain(x), steps))

    def starts(self, n: int) -> Tensor:
        """Draw where n chains start, (n, *shape): each number by itself, as the data's are."""
        mean = self.mean.expand(n, *self.mean.shape)
        if isinstance(self.head, Bernoulli):
            return torch.bernoulli(mean)
        x = mean + self.sd * torch.randn_like(mean)
        return x.clamp(0, 1) if self.spiky else x

    @torch.no_grad()
    def way(
        self, n: int, steps: int | None = None, start: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the visible states of n chains over time, the start first, (n, *shape) each.

        Args:
            n: Number of chains.
            steps: Of each; `burn_in` if None.
            start: Where they start, (n, *shape); as `starts` draws if None.
        """
        states = self.chain(self.starts(n) if start is None else start)
        for step in itertools.islice(states, 1 + (self.burn_in if steps is None else steps)):
            yield step.x

    def settle(self, shape: Size) -> Tensor:
        """Draw z of the last step of chains that burn in, (*shape, *event)."""
        states = self.chain(self.starts(prod(shape)))
        last = next(itertools.islice(states, self.burn_in - 1, None))
        return last.z.reshape(*shape, *self.event)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", Drawn(self.settle, self.event, _NO_DENSITY, self))
            pyro.sample("x", self.decoder(z), obs=x)


class Pixels(Vector):
    """A datum as a decoder reads it: one vector, in the likelihood's units."""

    def __init__(self) -> None:
        super().__init__()
        self.likelihood: Likelihood | None = None

    def of(self, likelihood: Likelihood, shape: Shape) -> None:
        """Take the units, and the shape, of the data."""
        if likelihood.inputs(shape) != shape:
            raise ValueError(
                "a chain that denoises reads its own states, one number for each coordinate, and a "
                "category has one for each level: leave categories out, or take another pair, such "
                "as VAE"
            )
        self.likelihood, self.shape, self.size = likelihood, shape, prod(shape)

    def embed(self, z: Tensor) -> Tensor:
        """Return data (*batch, *shape) as vectors, (*batch, features)."""
        assert self.likelihood is not None  # noqa: S101
        return self.likelihood.read(z).reshape(*z.shape[: z.dim() - len(self.shape)], -1)


class DAE(DenoisingChain):
    r"""The denoising autoencoder, as a chain that generates.

    .. math:: z \sim C(z \mid x), \quad x \sim p(x \mid f(z))

    Vincent, Larochelle, Bengio and Manzagol, 2008, Extracting and composing robust features with
    denoising autoencoders; Bengio, Yao, Alain and Vincent, 2013, Generalized denoising
    auto-encoders as generative models. z is the corrupted datum itself. With Gaussian corruption
    of small variance s^2, (f(z) - z) / s^2 is the slope of the log density of corrupted data.

    Args:
        net: f, from a corrupted datum to the likelihood's features; a net, any module, or a name.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        corruption: C: "salt-and-pepper", a fair coin of 0 and 1 in the place of each number with
            some probability; "gaussian"; "auto" takes the first for data in [0, 1].
        level: That probability, or the standard deviation, in units of the data's own.
        burn_in: Steps from the start to a sample.

    Raises:
        ValueError: A name is unknown, a number is out of range, or, when it is built, salt and
            pepper do not suit the data.

    Example:
        >>> from priory.nets import MLP
        >>> pair = DAE(MLP((16,)), burn_in=5)
        >>> pair.build(torch.eye(4))
        >>> [x.shape for x in pair.way(3, steps=1)]
        [torch.Size([3, 4]), torch.Size([3, 4])]
    """

    name = "dae"

    def __init__(
        self,
        net: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        corruption: str = "auto",
        level: float = 0.4,
        burn_in: int = 100,
    ) -> None:
        super().__init__(corruption, level, burn_in)
        self._pixels = Pixels()
        self.decoder = Decoder(net, self._pixels, likelihood)

    @property
    def net(self) -> Net:
        """F."""
        found: Net = self.decoder.net
        return found

    @property
    def event(self) -> Shape:
        """The shape of a datum."""
        return tuple(self.mean.shape)

    def make_step(self, x: Tensor) -> None:
        """Make the decoder."""
        self._pixels.of(self.head, tuple(x.shape[1:]))
        self.decoder.build(x)

    def advance(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return a corrupted state; nothing is remembered."""
        return self.corrupt(x).sample(), hidden

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.corrupt(x))


class Transposed(Net):
    """The way back down through a layer: its weights, transposed, and a bias of the outputs' own.

    Args:
        layers: Of which the first one's weights, (inputs, outputs), are shared.
    """

    name = "transposed"

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        # In a tuple a module is no submodule, so its parameters are not listed twice.
        self._layers = (layers,)

    @property
    def weight(self) -> Tensor:
        """The weights in common, (inputs, outputs)."""
        return weight_of(self._layers[0][0])

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the bias."""
        weight = self.weight
        if (prod(inputs), prod(outputs)) != weight.shape:
            raise ValueError(
                f"weights in common with the way up are {tuple(weight.shape)}, and the likelihood "
                f"asks for {prod(outputs)} numbers from {prod(inputs)}: take one of a single map, "
                "such as likelihood='normal' with its learned scale"
            )
        self.bias = nn.Parameter(weight.new_zeros(prod(outputs)))

    @torch.no_grad()
    def set_bias(self, value: Tensor) -> None:
        """Set the bias."""
        self.bias.copy_(value.flatten())

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        return x @ self.weight + self.bias


class GSN(DenoisingChain):
    r"""The generative stochastic network: layers above a corrupted datum, which remember.

    .. math:: h_l \leftarrow \phi(W_l h_{l-1} + W_{l+1}^T h_{l+1} + b_l + s e) + s e', \quad
        h_0 = \tilde x \sim C(\tilde x \mid x), \quad x \sim p(x \mid W_1^T h_1 + b_0)

    Bengio, Laufer, Alain and Yosinski, 2014, Deep generative stochastic networks trainable by
    backprop. At each step the odd layers are drawn given those next to them, then the even ones and
    the datum, so that k steps reach layer k. e and e' are standard normal; the first layer goes
    without. z is the first layer. Of one layer it is a `DAE` with tied weights.

    Args:
        layers: Widths of h_1, h_2, ...
        activation: phi, a name.
        noise: s.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        corruption: C, as in `DAE`.
        level: Of the corruption, as in `DAE`.
        burn_in: Steps from the start to a sample.

    Raises:
        ValueError: A name is unknown, a number is out of range, or, when it is built, salt and
            pepper do not suit the data, or the likelihood has several maps.

    Example:
        >>> pair = GSN((16, 8), burn_in=5)
        >>> pair.build(torch.eye(4))
        >>> [p.mean.shape for p in pair.walk(torch.eye(4), 2)]
        [torch.Size([4, 4]), torch.Size([4, 4])]
    """

    name = "gsn"

    def __init__(
        self,
        layers: Sequence[int] = (400, 400),
        activation: str = "tanh",
        noise: float = 1.0,
        likelihood: Likelihood | str = "auto",
        corruption: str = "auto",
        level: float = 0.4,
        burn_in: int = 100,
    ) -> None:
        super().__init__(corruption, level, burn_in)
        if not layers:
            raise ValueError("layers must name the width of one layer or more, got none")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise must not be negative or infinite, got {noise}")
        named("activation", activation, ACTIVATIONS)
        self.layers = tuple(positive("layers", width) for width in layers)
        self.activation, self.noise = activation, noise
        self._pixels = Pixels()
        self.up = nn.ModuleList()
        self.decoder = Decoder(Transposed(self.up), Vector(self.layers[0]), likelihood)

    @property
    def event(self) -> Shape:
        """The shape of h_1."""
        return self.layers[:1]

    def make_step(self, x: Tensor) -> None:
        """Make the layers, then the way down to the datum."""
        self._pixels.of(self.head, tuple(x.shape[1:]))
        for inputs, outputs in itertools.pairwise((self._pixels.features, *self.layers)):
            layer = nn.Linear(inputs, outputs, device=x.device, dtype=x.dtype)
            start_layer(layer, self.activation)
            self.up.append(layer)
        self.bend = ACTIVATIONS[self.activation]()
        self.decoder.build(x)

    def advance(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the first layer, and all of them."""
        return self._raise(self.corrupt(x).sample(), hidden)

    def _raise(self, corrupted: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        below = self._pixels.embed(corrupted)
        resting = (below.new_zeros(*below.shape[:-1], width) for width in self.layers)
        states = [below, *(hidden or resting)]
        for first in (1, 2):
            for level in range(first, len(states), 2):
                states[level] = self._layer(level, states)
        return states[1], tuple(states[1:])

    def _layer(self, level: int, states: Sequence[Tensor]) -> Tensor:
        """Draw h_l given the layers next to it."""
        h = self.up[level - 1](states[level - 1])
        if level + 1 < len(states):
            h = h + states[level + 1] @ weight_of(self.up[level])
        if level == 1 or not self.noise:
            return self.bend(h)
        h = self.bend(h + self.noise * torch.randn_like(h))
        return h + self.noise * torch.randn_like(h)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            corrupted = self.corrupt(x)

            def draw(shape: Size) -> Tensor:
                lead = shape[: len(shape) - len(corrupted.batch_shape)]
                return self._raise(corrupted.sample(lead), ())[0]

            reason = "z has no density: the corruption is drawn, and summed over by no formula"
            q = Drawn(draw, self.event, reason, self, has_rsample=True)
            pyro.sample("z", q.expand(corrupted.batch_shape))


def weight_of(layer: nn.Module) -> Tensor:
    """Return a linear layer's weights, (outputs, inputs)."""
    assert isinstance(layer, nn.Linear)  # noqa: S101
    return layer.weight
