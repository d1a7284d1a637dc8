"""The deep belief network: bits of a Boltzmann machine, and a belief net from them to the data."""

from math import prod
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from priory.likelihoods import Bernoulli, Likelihood
from priory.models.helmholtz import Bits
from priory.models.pair import Pair
from priory.nets import MLP, Decoder, Encoder
from priory.priors import Boltzmann


class DBN(Pair):
    r"""A deep belief network of two layers of bits, of which the upper one is summed out.

    .. math:: p(z) = \frac1Z \, e^{c \cdot z} \prod_u \big(1 + e^{b_u + W_u \cdot z}\big), \quad
        x_i \sim \mathrm{Ber}(\sigma(d_i + V_i \cdot z)); \qquad
        z_j \sim \mathrm{Ber}(\sigma(a_j + R_j \cdot x))

    The top is a restricted Boltzmann machine of z and as many bits u as a datum has. It is trained
    greedily: first the top is the machine of the data and z, by `Contrast()`; the stage `Unfold`
    then copies V = W and R = W'. So far all is one machine, in which the top has that of the data
    with its layers exchanged, and the bound is log p(x). From there the three matrices part: the
    top learns what the first machine leaves of z, by its chains, and
    `Wake() + Sleep(detached=True)` is the up-down algorithm. Its bound

    .. math:: E_q[\log p(x \mid z) + \log p^*(z) - \log q(z \mid x)] - \log Z

    needs log Z of the top alone; `evaluate` and `score` find it by annealing both ways.

    Hinton, Osindero and Teh, 2006, A fast learning algorithm for deep belief nets.

    Args:
        latent: Number of bits z.
        likelihood: Of a datum: bernoulli; "auto" takes the one that fits the training data's
            values.
        centred: Whether the layers of the first machine have offsets; see `RBM`.
        chains: Persistent chains of the top.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains; see `priory.priors.boltzmann.Machine`.

    Raises:
        ValueError: A number isn't positive; at the first data, these are not bits.

    Example:
        >>> pair = DBN(latent=5)
        >>> pair.build((torch.rand(20, 1, 4, 4) < 0.3).float())
        >>> pair.prior.units
        16
    """

    name = "dbn"
    prior: Boltzmann

    def __init__(
        self,
        latent: int = 64,
        likelihood: Likelihood | str = "auto",
        centred: bool = True,
        chains: int = 100,
        sweeps: int = 200,
        temperatures: int = 1,
    ) -> None:
        super().__init__(latent)
        self.centred, self.chains, self.sweeps = centred, chains, sweeps
        self.temperatures = temperatures
        Boltzmann(1, chains, sweeps, temperatures)  # raises for numbers out of range
        self.encoder = Encoder(MLP(()), constraints.boolean)
        self.decoder = Decoder(MLP(()), Bits(self.latent), likelihood)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the belief net, and the top as the machine of the data, at the data's means."""
        likelihood = self.decoder.choose(x)
        check_bits(likelihood, "a deep belief network")
        self.encoder.build(x, self.latent, likelihood)
        self.decoder.build(x)
        units = prod(x.shape[1:])
        self.prior = Boltzmann(units, self.chains, self.sweeps, self.temperatures)
        self.prior.build(self.latent, x)
        self.prior.machine.start(_linear(self.decoder).bias.detach())
        self.prior.machine.offset(x.mean(0).flatten() if self.centred else None)

    def visible(self, x: Tensor) -> Tensor:
        """Return the top's visible layer while it is the data's machine: the data, flat."""
        return self.flat(x)

    @torch.no_grad()
    def unfold(self) -> None:
        """Make belief net and guide those of the top's machine, as if it were the data's."""
        machine = self.prior.harmonium()
        up, down = _linear(self.encoder), _linear(self.decoder)
        up.weight.copy_(machine.weight.mT)
        up.bias.copy_(machine.hidden)
        down.weight.copy_(machine.weight)
        down.bias.copy_(machine.visible)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x))


def check_bits(likelihood: Likelihood, what: str) -> None:
    """Raise a ValueError unless a likelihood is of bits.

    Args:
        likelihood: Chosen for the data.
        what: Needs it, for the message.
    """
    if not isinstance(likelihood, Bernoulli):
        raise ValueError(
            f"{what} is of binary data and needs the likelihood bernoulli, got {likelihood.name}; "
            "binarise the data, or take an RBM of real data"
        )


def _linear(part: Any) -> Any:
    """Return the one layer of an encoder or a decoder."""
    return part.net.last
