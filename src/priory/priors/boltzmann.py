"""Boltzmann machines: their parameters, persistent chains, and the prior that one of them is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.harmonium import (
    BITS,
    MEANS,
    Harmonium,
    HarmoniumBits,
    Units,
    bits_of,
    swapped,
)
from priory.lookup import positive
from priory.part import Part
from priory.priors.base import Encode, Prior

FEW = 10
"""Bits of a layer up to which log Z, its gradient and samples are exact at any time."""
_SPREAD = 0.01  # standard deviation of the weights at the start


@dataclass(frozen=True)
class Normaliser:
    """What is known of a machine's log Z.

    Args:
        log_z: In nats; NaN if it is not known.
        se: Its standard error; 0 where it is exact.
        note: How it was found, or why it is not known.
        ways: What annealing finds forwards and back; none where it is exact.
    """

    log_z: float
    se: float
    note: str
    ways: tuple[float, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.log_z)


class Machine(Part):
    r"""The parameters of a harmonium, and the persistent chains by which it is sampled.

    .. math:: f = b + W (h - \lambda), \qquad \log\frac{p(h = 1 \mid x)}{p(h = 0 \mid x)}
        = c + (T(x) - T(\mu)) W

    The offsets :math:`\mu` and :math:`\lambda` centre the layers (Melchior, Fischer and Wiskott,
    2016, How to center deep Boltzmann machines): they change the gradient, and not the distribution
    that the parameters stand for. `follow` moves :math:`\lambda` and leaves the distribution as it
    is. Chains, offsets and the fields at infinite temperature are buffers: a part of the weights
    and of every checkpoint.

    Args:
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains, evenly spaced inverse temperatures from 1 down, exchanged by
            parallel tempering; 1 for none.

    Raises:
        ValueError: A number isn't positive.
    """

    _kind, _owner = "machine", "pair"
    base: Tensor
    chains: Tensor
    centre: Tensor
    average: Tensor
    shift: Tensor
    betas: Tensor

    def __init__(self, chains: int = 100, sweeps: int = 200, temperatures: int = 1) -> None:
        super().__init__()
        self.count = positive("chains", chains)
        self.sweeps = positive("sweeps", sweeps)
        self.temperatures = positive("temperatures", temperatures)
        # Set by evaluation, for as long as it lasts: how log Z is found, and what it is.
        self.find: Callable[[], Normaliser] | None = None
        self.found: Normaliser | None = None

    def build(self, visible: int, hidden: int, centre: Tensor) -> None:
        r"""Make the parameters: small weights, no biases.

        Args:
            visible: Fields of x.
            hidden: Bits h.
            centre: :math:`\mu`, (*shape).
        """
        self.build_once((visible, hidden), lambda: self._make(visible, hidden, centre))

    def _make(self, visible: int, hidden: int, centre: Tensor) -> None:
        self.weight = nn.Parameter(_SPREAD * torch.randn(visible, hidden))
        self.visible = nn.Parameter(torch.zeros(visible))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        shape = (self.temperatures, self.count, hidden)
        self.register_buffer("chains", torch.bernoulli(torch.full(shape, 0.5)))
        self.register_buffer("centre", centre.detach().clone())
        self.register_buffer("average", torch.full((hidden,), 0.5))
        self.register_buffer("shift", torch.zeros(visible))
        self.register_buffer("base", torch.zeros(visible))
        betas = 1 - torch.arange(self.temperatures) / self.temperatures
        self.register_buffer("betas", betas.reshape(-1, 1, 1), persistent=False)

    def offset(self, centre: Tensor | None) -> None:
        r"""Take :math:`\mu` and leave :math:`\lambda` at 1/2; or take no offsets.

        Args:
            centre: :math:`\mu`, (*shape); None for the plain parameterisation.
        """
        if centre is None:
            self.centre.zero_()
            self.average.zero_()
        else:
            self.centre.copy_(centre)

    def start(self, field: Tensor) -> None:
        """Start at independent units x.

        Args:
            field: Of x, (visible,).
        """
        with torch.no_grad():
            self.visible.copy_(field)
            self.base.copy_(field)

    def harmonium(self, units: Units = BITS, above: Units = MEANS) -> Harmonium:
        """Return the harmonium, its biases without the offsets.

        Args:
            units: Of x.
            above: Of h.
        """
        self.check_built()
        average = self.average.clone()  # `follow` moves it before the backward pass
        visible = self.visible + self.shift - self.weight @ average
        hidden = self.hidden - units.statistic(self.centre) @ self.weight
        return Harmonium(self.weight, visible, hidden, units, above=above)

    def fields(self, h: Tensor) -> Tensor:
        """Return the fields of x, (*batch, visible), given bits (*batch, hidden)."""
        return self.visible + self.shift + (h - self.average.clone()) @ self.weight.mT

    @torch.no_grad()
    def take(self, machine: Harmonium) -> None:
        """Take the weights and biases of a machine of bits, at the offsets that there are.

        Args:
            machine: The other one.
        """
        self.shift.zero_()
        self.weight.copy_(machine.weight)
        self.visible.copy_(machine.visible + machine.weight @ self.average)
        self.hidden.copy_(machine.hidden + self.centre.flatten() @ machine.weight)

    @torch.no_grad()
    def follow(self, mean: Tensor, memory: float) -> None:
        r"""Move :math:`\lambda` towards a mean of h, and the biases so that p(x, h) stays.

        Args:
            mean: (hidden,).
            memory: Of the moving average.
        """
        move = (1 - memory) * (mean - self.average)
        self.shift.add_(self.weight @ move)
        self.average.add_(move)

    @torch.no_grad()
    def advance(self, machine: Harmonium, sweeps: int = 1) -> Tensor:
        """Move the chains on by sweeps of Gibbs, and return x of those at temperature 1.

        In evaluation mode the chains stay where they are.

        Args:
            machine: The harmonium.
            sweeps: Of all chains; after each, those at neighbouring temperatures may be exchanged.

        Returns:
            (chains, *shape), of which the last h is drawn.
        """
        h = self.chains
        if self.temperatures == 1:
            for _ in range(sweeps):
                x, h = machine.sweep(h[0])
                h = h.unsqueeze(0)
            self.keep(h)
            return x
        every = machine.tempered(self.betas, self.base)
        for _ in range(sweeps):
            x = swapped(every, every.given(h).sample())
            h = torch.bernoulli(torch.sigmoid(every.up(x)))
        self.keep(h)
        return x[0]

    @torch.no_grad()
    def keep(self, h: Tensor) -> None:
        """Put chains in the place of the first persistent ones, in training mode.

        Args:
            h: (temperatures, n, hidden), or those at temperature 1 alone.
        """
        if self.training:
            n = min(h.shape[1], self.count)
            self.chains[: len(h), :n].copy_(h[:, :n])

    @torch.no_grad()
    def draw(self, machine: Harmonium, n: int) -> Tensor:
        """Draw what the chains hold n times, (n, bits), from copies of those at temperature 1.

        Of few bits by their probabilities.

        Args:
            machine: The harmonium.
            n: Number of draws.
        """
        bits = self.chains.shape[-1]
        if bits <= FEW:
            every = bits_of(torch.arange(1 << bits, device=self.chains.device), bits, self.weight)
            probabilities = machine.log_chain(every).softmax(-1)
            return every[torch.multinomial(probabilities, n, replacement=True)]
        h = self.chains[0][torch.arange(n, device=self.chains.device) % self.count]
        for _ in range(self.sweeps):
            _, h = machine.sweep(h)
        return h

    def log_normaliser(self, machine: Harmonium) -> Tensor:
        r"""Return log Z, shape (), or in training something with its gradient.

        .. math:: \nabla \log Z = -E_{p(x)}[\nabla F(x)]

        Exact, with its gradient, for few bits. Else in training mode 0, with the gradient that the
        persistent chains give after one sweep: what is scored by it is no bound. In evaluation
        mode the value that evaluation has found, NaN if it has not.

        Args:
            machine: The harmonium.
        """
        if machine.listed <= FEW:
            return machine.log_normaliser()
        if self.training and torch.is_grad_enabled():
            energy = machine.log_visible(self.advance(machine)).mean()
            return energy - energy.detach()
        known = self.known(machine)
        return self.weight.new_full((), math.nan if known is None else known.log_z)

    def why_unknown(self, machine: Harmonium) -> str:
        """Say why log Z is not known; "" where it is, and in training, where chains stand for it.

        Args:
            machine: The harmonium.
        """
        if machine.listed <= FEW or self.training:
            return ""
        known = self.known(machine)
        if known is None:
            return (
                "log Z of the Boltzmann machine is not known here; evaluate and score find it, by "
                "annealing both ways"
            )
        return "" if known.is_known else known.note

    def known(self, machine: Harmonium) -> Normaliser | None:
        """Return what evaluation knows of log Z; None outside of it, and for few bits.

        Args:
            machine: The harmonium.
        """
        if machine.listed <= FEW:
            return None
        if self.found is None and self.find is not None:
            self.found = self.find()
        return self.found

    def distribution(self, machine: Harmonium) -> HarmoniumBits:
        """Return the distribution of h.

        Args:
            machine: The harmonium.
        """
        return HarmoniumBits(machine, *self.parts(machine))

    def parts(self, machine: Any) -> tuple[Callable[..., Any], ...]:
        """Return what `MachineBits` takes: log Z, draws, and why log Z is not known."""
        found = (self.log_normaliser, self.draw, self.why_unknown)
        return tuple(functools.partial(part, machine) for part in found)


def machines_in(roots: Iterable[nn.Module]) -> Iterator[Any]:
    """Yield the parts of modules that have a machine, as `machine` and `harmonium()`.

    Args:
        roots: Modules; their parts are looked through.
    """
    found = {id(m): m for root in roots for m in root.modules()}
    for module in found.values():
        own = getattr(module, "machine", None)
        if isinstance(own, Machine) and own.built_for is not None and hasattr(module, "harmonium"):
            yield module


def refuse_offset(roots: Iterable[nn.Module], what: str) -> None:
    """Raise a ValueError if densities are known up to log Z alone in training.

    Args:
        roots: A pair's modules.
        what: What the value of a density counts for, rather than its gradient.
    """
    if any(part.harmonium().listed > FEW for part in machines_in(roots)):
        raise ValueError(
            f"{what} goes by the value of a density, and log Z of a Boltzmann machine of more than "
            f"{FEW} bits is not known in training; take a bound alone, or {FEW} units"
        )


def refuse_chains(roots: Iterable[nn.Module]) -> None:
    """Raise a ValueError if a gradient is that of persistent chains, which one process has.

    Args:
        roots: A pair's modules.
    """
    if any(part.harmonium().listed > FEW for part in machines_in(roots)):
        raise ValueError(
            f"a Boltzmann machine of more than {FEW} bits is trained by one set of chains in one "
            f"process: start one, not several, or take {FEW} units, whose log Z is exact"
        )


class Boltzmann(Prior):
    r"""Bits with the energy of a restricted Boltzmann machine, whose hidden units are summed out.

    .. math:: p(z) = \frac1Z \, e^{c \cdot z} \prod_u \big(1 + e^{b_u + W_u \cdot z}\big)

    A prior of any pair with latents of bits: Rolfe, 2017, Discrete variational autoencoders. With
    10 bits or 10 units, or fewer, log Z, its gradient and samples are exact. Of more, persistent
    chains give the gradient: log Z counts as 0 in training, where the loss is then no bound, and
    `evaluate` finds it by annealed importance sampling, forwards and back. Train by a bound with a
    gradient for bits, such as `IWAE(5, gradient="vimco")`.

    Args:
        units: Hidden units u.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains; see `Machine`.

    Raises:
        ValueError: A number isn't positive.

    Example:
        >>> prior = Boltzmann(units=3)
        >>> prior.build(2, torch.zeros(1, 4))
        >>> every = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> prior().log_prob(every).exp().sum().detach().round(decimals=4)
        tensor(1.)
    """

    name = "boltzmann"
    support = constraints.boolean

    def __init__(
        self, units: int = 64, chains: int = 100, sweeps: int = 200, temperatures: int = 1
    ) -> None:
        super().__init__()
        self.units = positive("units", units)
        self.machine = Machine(chains, sweeps, temperatures)
        self.chains, self.sweeps, self.temperatures = chains, sweeps, temperatures

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the weights and the chains."""
        self.machine.build(self.units, latent, torch.full((self.units,), 0.5))

    def harmonium(self) -> Harmonium:
        """Return the machine of the latent's bits and the hidden units."""
        return self.machine.harmonium()

    def distribution(self) -> TorchDistribution:
        """Return the distribution of the bits."""
        return self.machine.distribution(self.harmonium())
