"""The Helmholtz machine: a sigmoid belief net and its recognition net."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from priory.likelihoods import Likelihood
from priory.lookup import positive
from priory.models.hierarchical import build_layers
from priory.models.pair import Pair
from priory.nets import MLP, Decoder, Encoder, StochasticLayer
from priory.posteriors import BernoulliPosterior

START = -1.0  # log-odds of the top layer's bits, as in Bornschein and Bengio, 2015


class CentredEncoder(Encoder):
    """From a datum, less the training rows' mean, to its lowest layer of bits.

    Args:
        net: From a datum to the bits' log-odds.
    """

    centre: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net, constraints.boolean)

    def make(self, x: Tensor, latent: int, likelihood: Likelihood) -> None:
        """Make the net, and keep the mean of what it reads."""
        super().make(x, latent, likelihood)
        self.register_buffer("centre", likelihood.read(x).mean(0))

    def read(self, x: Tensor) -> Tensor:
        """Return what the net reads of data (*batch, *shape)."""
        return super().read(x) - self.centre


@dataclass(frozen=True)
class Bits:
    """Bits as a decoder reads them: as they are.

    Args:
        features: Number of bits.
    """

    features: int

    def embed(self, z: Tensor) -> Tensor:
        """Return bits (*batch, features)."""
        return z


class HelmholtzMachine(Pair):
    r"""Layers of bits, each given the one above, and a recognition net that runs up again.

    .. math:: z_L \sim \mathrm{Ber}(\sigma(b)), \quad z_l \sim \mathrm{Ber}(\sigma(f_l(z_{l+1}))),
        \quad x \sim p(x \mid f_0(z_1)); \qquad z_1 \sim \mathrm{Ber}(\sigma(g_1(x - \bar x))),
        \quad z_{l+1} \sim \mathrm{Ber}(\sigma(g_{l+1}(z_l)))

    Dayan, Hinton, Neal and Zemel, 1995, The Helmholtz machine; the model is the sigmoid belief net
    of Neal, 1992, Connectionist learning of belief networks. f and g are linear, or have hidden
    layers of hyperbolic tangents. Bits have no reparameterised samples: train by wake-sleep,
    `Wake(5) + Sleep(detached=True)`, or by a bound with a gradient for such latents,
    `IWAE(5, gradient="vimco")`; a net of up to 12 bits exactly, `ELBO(gradient="enumerate")`. The
    decoder starts at the training rows' mean and the encoder reads what is left of them.

    Args:
        layers: Number of bits in each layer, from z_1, next to the data, to z_L.
        hidden: Widths of the hidden layers in f and g; none makes them linear.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.

    Raises:
        ValueError: There is no layer, or a width isn't positive.

    Example:
        >>> pair = HelmholtzMachine(layers=(20, 5))
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.encoder(torch.zeros(3, 1, 8, 8)).event_shape
        torch.Size([20])
    """

    name = "helmholtz"

    def __init__(
        self,
        layers: Sequence[int] = (200, 200),
        hidden: Sequence[int] = (),
        likelihood: Likelihood | str = "auto",
    ) -> None:
        if not layers:
            raise ValueError("layers must name the bits of one layer or more, got none")
        widths = tuple(positive("layers", width) for width in layers)
        super().__init__(latent=widths[-1])
        self.layers, self.hidden = widths, tuple(hidden)
        self.encoder = CentredEncoder(self._net())
        self.decoder = Decoder(self._net(), Bits(self.layers[0]), likelihood)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters of all layers for data (n, *shape)."""
        self.encoder.build(x, self.layers[0], self.decoder.choose(x))
        self.up = self._maps(self.layers[:-1], self.layers[1:])
        self.top = nn.Parameter(torch.full((self.layers[-1],), START))
        self.down = self._maps(self.layers[1:], self.layers[:-1])
        self.decoder.build(x)

    @property
    def sites(self) -> list[str]:
        """The names of the layers, from z1, next to the data."""
        return [f"z{n}" for n in range(1, len(self.layers) + 1)]

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            *below, top = self.sites
            z = pyro.sample(top, BernoulliPosterior()(self.top.unsqueeze(0)))
            for site, layer in zip(reversed(below), reversed(self.down), strict=True):
                z = pyro.sample(site, layer(z))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            lowest, *above = self.sites
            z = pyro.sample(lowest, self.encoder(x))
            for site, layer in zip(above, self.up, strict=True):
                z = pyro.sample(site, layer(z))

    def _maps(self, inputs: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
        maps = [StochasticLayer(self._net(), constraints.boolean) for _ in inputs]
        build_layers(maps, inputs, outputs)
        return nn.ModuleList(maps)

    def _net(self) -> MLP:
        return MLP(self.hidden, "tanh")
