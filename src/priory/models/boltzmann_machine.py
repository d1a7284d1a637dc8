"""The general Boltzmann machine, whose units are all connected."""

from math import prod
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from priory.distributions.harmonium import BITS, MEANS, Units
from priory.distributions.network import Network, NetworkBits
from priory.likelihoods.values import is_binary
from priory.models.pair import Pair
from priory.priors.boltzmann import FEW, Machine

_SPREAD = 0.01  # standard deviation of the weights at the start


class Connections(Machine):
    r"""The parameters of a network, and the persistent chains by which it is sampled.

    .. math:: f = b + W (s - \mu)

    The offset :math:`\mu` is the data's mean, and 1/2 for hidden units; it changes the gradient,
    and not the distribution.

    Args:
        hidden: Number of hidden units.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
    """

    def __init__(self, hidden: int, chains: int, sweeps: int) -> None:
        super().__init__(chains, sweeps)
        self.summed = hidden

    def _make(self, visible: int, hidden: int, centre: Tensor) -> None:
        units = visible + hidden
        self.weight = nn.Parameter(_SPREAD * 2**0.5 * torch.randn(units, units))
        self.visible = nn.Parameter(torch.zeros(units))
        self.register_buffer("chains", torch.bernoulli(torch.full((1, self.count, units), 0.5)))
        self.register_buffer("centre", centre.detach().clone())
        self.register_buffer("base", torch.zeros(units))

    def harmonium(self, units: Units = BITS, above: Units = MEANS) -> Any:  # noqa: ARG002
        """Return the network, its biases without the offsets."""
        self.check_built()
        weight = 0.5 * (self.weight + self.weight.mT)
        weight = weight - weight.diagonal().diag()
        return Network(weight, self.visible - self.centre @ weight, self.summed)

    @torch.no_grad()
    def advance(self, machine: Any, sweeps: int = 1) -> Tensor:
        """Move the chains on by sweeps of Gibbs, in training mode, and return their visible units.

        Args:
            machine: The network.
            sweeps: Of all chains.
        """
        s = self.chains[0]
        for _ in range(sweeps):
            s = machine.turn(s)
        self.keep(s.unsqueeze(0))
        return s[:, : s.shape[1] - self.summed]


class BoltzmannMachine(Pair):
    r"""The general Boltzmann machine: all units are connected, and a few may be hidden.

    .. math:: p(x) = \frac1Z \sum_h e^{\frac12 s' W s + b \cdot s}, \qquad s = (x, h)

    It has no latent: hidden units, up to 10, are summed out state by state, so that the gradient's
    first half is exact. Train by `Contrast()`. A sweep of Gibbs goes through the units in turn. log
    Z is exact up to 20 units; else `evaluate` and `score` find it by annealing both ways. At
    temperature 0 its `network()` is that of Hopfield; see `priory.distributions.network`.

    Ackley, Hinton and Sejnowski, 1985, A learning algorithm for Boltzmann machines.

    Args:
        hidden: Number of hidden units, 0 for none.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.

    Raises:
        ValueError: A number is out of range; at the first data, these are not bits.

    Example:
        >>> pair = BoltzmannMachine(hidden=2)
        >>> pair.build((torch.rand(20, 1, 2, 2) < 0.3).float())
        >>> pair.network().weight.shape
        torch.Size([6, 6])
    """

    name = "boltzmann-machine"
    centred = True

    def __init__(self, hidden: int = 0, chains: int = 100, sweeps: int = 200) -> None:
        super().__init__()
        if not 0 <= hidden <= FEW:
            raise ValueError(
                f"hidden units are summed out state by state, so there may be 0 to {FEW}, got "
                f"{hidden}; for more take an RBM or a DBM"
            )
        self.hidden, self.chains, self.sweeps = hidden, chains, sweeps
        self.machine = Connections(hidden, chains, sweeps)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make W, small and random, and b, the data's own."""
        if not is_binary(x):
            raise ValueError(
                "a general Boltzmann machine is of binary data; binarise the data, or take an RBM "
                "of real data"
            )
        mean = x.mean(0).flatten()
        halves = mean.new_full((self.hidden,), 0.5)
        self.machine.build(prod(x.shape[1:]), self.hidden, torch.cat([mean, halves]))
        clipped = torch.cat([mean, halves]).clamp(0.001, 0.999)
        self.machine.start(clipped.logit())

    def network(self) -> Network:
        """Return the network of all units.

        Raises:
            RuntimeError: The pair is not built.
        """
        network: Network = self.machine.harmonium()
        return network

    def harmonium(self) -> Network:
        """Return the network, by the name under which the machines of all pairs are found."""
        return self.network()

    def visible(self, x: Tensor) -> Tensor:
        """Return the network's visible units for data: the data, flat."""
        return self.flat(x)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            network, shape = self.network(), torch.Size(self.shape or ())
            given = NetworkBits(network, shape, *self.machine.parts(network))
            pyro.sample("x", given, obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pass
