"""Harmoniums: two layers of units, each independent given the other; and the bits of one of them.

Layers of a deeper machine that are connected in turn are two layers as well, the odd ones and the
even ones, with a weight of blocks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import BitPairs, IndependentBernoulli

MOST = 20
"""Bits of a layer whose values are all listed."""
_BLOCK = 1 << 12  # values at a time
_REACH = 2**23  # numbers of one array


@dataclass(frozen=True)
class Units:
    r"""The units of a layer, an exponential family :math:`p(x) = g(x) e^{T(x) \cdot f - A(f)}`.

    Args:
        given: From fields f, (*batch, units), to the distribution of x.
        statistic: T, from values (*batch, *shape) to (*batch, units).
        cumulant: A, from fields to (*batch), up to a constant.
        binary: Whether the units are bits, whose values can be listed.
    """

    given: Callable[[Tensor], TorchDistribution]
    statistic: Callable[[Tensor], Tensor]
    cumulant: Callable[[Tensor], Tensor]
    binary: bool = False


def _bernoulli(field: Tensor) -> TorchDistribution:
    return IndependentBernoulli(field, 1)


def _same(x: Tensor) -> Tensor:
    return x


def _softplus(field: Tensor) -> Tensor:
    return softplus(field).sum(-1)


def _unchecked(field: Tensor) -> TorchDistribution:
    return IndependentBernoulli(field, 1, validate_args=False)


def _both(field: Tensor) -> TorchDistribution:
    return BitPairs(field, 1, validate_args=False)


def _normal(field: Tensor) -> TorchDistribution:
    return IndependentNormal(field, field.new_zeros(()), 1, validate_args=False)


def _half_square(field: Tensor) -> Tensor:
    return 0.5 * field.square().sum(-1)


BITS = Units(_bernoulli, _same, _softplus, binary=True)
"""Units that are 0 or 1, whose fields are their log-odds."""
MEANS = replace(BITS, given=_unchecked)
"""Bits of which means between 0 and 1 are scored as bits are."""
TWICE = Units(_both, _same, lambda field: 2 * _softplus(field))
"""Units of two equal bits, as the number of those that are 1."""
LINEAR = Units(_normal, _same, _half_square)
"""Real units of variance 1, whose fields are their means."""


@dataclass(frozen=True)
class Harmonium:
    r"""A layer x of any units and a layer h of bits, joined by weights.

    .. math:: p(x, h) = \frac1Z \, g(x) \, e^{T(x) \cdot (b + W h) + c \cdot h}, \qquad
        p(h_j = 1 \mid x) = \sigma(c_j + T(x) \cdot W_j)

    h may be other units whose statistic is themselves, `above`, with a g of their own. Of bits,
    where T(x) = x and g = 1, it is the restricted Boltzmann machine. Smolensky, 1986,
    Information processing in dynamical systems: foundations of harmony theory; of other units
    Welling, Rosen-Zvi and Hinton, 2004, Exponential family harmoniums.

    Args:
        weight: W, (visible, hidden).
        visible: b, (visible,).
        hidden: c, (hidden,).
        units: Those of x; bits by default.
        beta: Inverse temperature, a number or (*temperatures, 1, 1): the fields are :math:`\beta`
            times theirs, and those of x :math:`(1 - \beta)` times `base` besides.
        base: Fields of x at :math:`\beta = 0`, (visible,).
        above: Units of h; bits by default.

    Example:
        >>> machine = Harmonium(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> machine.log_normaliser()  # of 5 bits
        tensor(3.4657)
    """

    weight: Tensor
    visible: Tensor
    hidden: Tensor
    units: Units = BITS
    beta: Tensor | float = 1.0
    base: Tensor | None = None
    above: Units = MEANS

    def tempered(self, beta: Tensor | float, base: Tensor) -> Harmonium:
        r"""Return the machine at another temperature; independent units at :math:`\beta = 0`.

        Args:
            beta: Inverse temperature, a number or (*temperatures, 1, 1).
            base: Fields of x at 0, (visible,).
        """
        return replace(self, beta=beta, base=base)

    def up(self, x: Tensor) -> Tensor:
        """Return the fields of h given x, the log-odds of bits, (*batch, hidden)."""
        return self.beta * (self.hidden + self.units.statistic(x) @ self.weight)

    def down(self, h: Tensor) -> Tensor:
        """Return the fields of x given h, (*batch, visible)."""
        return self._field(self.visible + h @ self.weight.mT)

    def given(self, h: Tensor) -> TorchDistribution:
        """Return p(x | h)."""
        return self.units.given(self.down(h))

    def log_hidden(self, h: Tensor) -> Tensor:
        r"""Return :math:`\log p(h) + \log Z = c \cdot h + A(b + W h)`, in nats, (*batch)."""
        field = self.beta * self.hidden
        own = (field * h).sum(-1)
        if not self.above.binary:
            own = self.above.given(field).log_prob(h) + self.above.cumulant(field)
        return own + self.units.cumulant(self.down(h))

    log_chain = log_hidden  # of what chains hold

    def log_visible(self, x: Tensor, up: Tensor | None = None) -> Tensor:
        r"""Return log p(x) + log Z, the negative free energy, in nats, (*batch).

        .. math:: -F(x) = \log g(x) + T(x) \cdot b + \sum_j \log(1 + e^{c_j + T(x) \cdot W_j})

        Args:
            x: Values, (*batch, *shape).
            up: The fields of h given x, where they are there already.
        """
        field = self._field(self.visible)
        alone: Tensor = self.units.given(field).log_prob(x) + self.units.cumulant(field)
        return alone + self.above.cumulant(self.up(x) if up is None else up)

    @torch.no_grad()
    def sweep(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return x drawn given h, (*batch, *shape), and h drawn given that: a sweep of Gibbs."""
        x = self.given(h).sample()
        return x, self.above.given(self.up(x)).sample()

    def at_base(self, base: Tensor, chains: int) -> Tensor:
        """Draw x of independent units, (chains, *shape).

        Args:
            base: Their fields, (visible,).
            chains: Number of draws.
        """
        return self.units.given(base.expand(chains, -1)).sample()

    def log_first(self, base: Tensor) -> Tensor:
        """Return log Z of independent units, shape ()."""
        return self.units.cumulant(base) + self.hidden.numel() * math.log(2)

    def anneal(
        self, x: Tensor, low: float, high: float, beta: float, base: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log density gained between two temperatures, and x moved at one of them.

        Args:
            x: Values, (chains, *shape).
            low: The lower inverse temperature.
            high: The higher one.
            beta: That of the sweep; at 0 and at 1 x stays.
            base: Fields of x at 0, (visible,).

        Raises:
            ValueError: h are no bits.
        """
        if not self.above.binary:
            raise ValueError("annealing sums out a layer of bits, and this machine's is of others")
        up, visible = self.up(x), self.units.statistic(x) @ (self.visible - base)
        hidden = (softplus(high * up) - softplus(low * up)).sum(-1)
        if 0 < beta < 1:
            h = torch.bernoulli(torch.sigmoid(beta * up))
            x = self.tempered(beta, base).given(h).sample()
        return (high - low) * visible + hidden, x

    @property
    def listed(self) -> int:
        """Number of bits of the smaller layer whose values can be listed.

        Raises:
            ValueError: No layer is of bits.
        """
        both = zip(self.weight.shape, (self.units, self.above), strict=True)
        sizes = [size for size, units in both if units.binary]
        if not sizes:
            raise ValueError("log Z needs a layer of bits, and neither of this machine's is one")
        return min(sizes)

    def log_normaliser(self) -> Tensor:
        """Return log Z, shape (), exactly, by all values of the smaller layer of bits.

        Raises:
            ValueError: Both layers have more bits than can be listed.
        """
        n = self.listed
        if n > MOST:
            raise ValueError(
                f"log Z is exact by enumeration up to {MOST} bits, and the smaller layer has {n}"
            )
        of_hidden = self.above.binary and n == self.weight.shape[1]
        score = self.log_hidden if of_hidden else self.log_visible
        return log_total(score, n, self.weight)

    def _field(self, field: Tensor) -> Tensor:
        if self.base is None:
            return self.beta * field
        return self.beta * field + (1 - self.beta) * self.base


def bits_of(numbers: Tensor, n: int, like: Tensor) -> Tensor:
    """Return numbers (k,) in binary, (k, n), of the type of another tensor."""
    places = torch.arange(n, device=numbers.device)
    return ((numbers.unsqueeze(-1) >> places) & 1).to(like.dtype)


def log_total(score: Callable[[Tensor], Tensor], n: int, weight: Tensor) -> Tensor:
    """Return the log of a sum over all values of some bits, shape (), in blocks of them.

    Args:
        score: From bits (k, n) to the logs of their terms, (k,).
        n: Number of bits.
        weight: Of the machine, for the bits' type and device and the size of a block.
    """
    size = max(1, min(_BLOCK, _REACH // max(weight.shape)))
    parts = [
        score(bits_of(numbers, n, weight)).logsumexp(-1)
        for numbers in torch.arange(1 << n, device=weight.device).split(size)
    ]
    return torch.stack(parts).logsumexp(0)


def swap_gain(own: Tensor, other: Tensor, partner: Tensor) -> Tensor:
    r"""Return the log of what the joint density gains by a swap with each partner's temperature.

    .. math:: \log \frac{f_k(x_l) f_l(x_k)}{f_k(x_k) f_l(x_l)}

    Args:
        own: :math:`\log f_k(x_k)`, (temperatures, chains).
        other: :math:`\log f_l(x_k)`, l the partner of k, likewise.
        partner: l of each k, (temperatures,); its own where it has none.
    """
    return other + other[partner] - own - own[partner]


@torch.no_grad()
def swapped(machine: Harmonium, x: Tensor) -> Tensor:
    """Return replicas with those at neighbouring temperatures exchanged, by Metropolis' rule.

    Swendsen and Wang, 1986, Replica Monte Carlo simulation of spin-glasses; in training Desjardins
    et al., 2010, Parallel tempering for training of restricted Boltzmann machines.

    Args:
        machine: At all temperatures, `beta` being (temperatures, 1, 1).
        x: Values of its visible layer, (temperatures, chains, *shape).
    """
    beta = machine.beta
    assert isinstance(beta, Tensor)  # noqa: S101
    assert machine.base is not None  # noqa: S101
    for first in (0, 1):
        places = torch.arange(len(beta), device=x.device)
        partner = places + torch.where((places - first) % 2 == 0, 1, -1)
        partner = torch.where((partner < 0) | (partner >= len(beta)), places, partner)
        own = machine.log_visible(x)
        other = machine.tempered(beta[partner], machine.base).log_visible(x)
        chance = torch.rand_like(own)[torch.minimum(places, partner)]  # one for both of a pair
        moves = chance.log() < swap_gain(own, other, partner)
        x = torch.where(moves.reshape(*moves.shape, *(1,) * (x.dim() - 2)), x[partner], x)
    return x


class MachineBits(TorchDistribution):
    """Bits of a machine whose log Z may be unknown.

    Args:
        shape: Of a draw, the event.
        log_normaliser: Returns log Z, shape ().
        draw: Returns so many draws of what the machine's chains hold, (n, bits).
        why_unknown: Returns why log Z is not known, "" where it is.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        shape: Size,
        log_normaliser: Callable[[], Tensor],
        draw: Callable[[int], Tensor],
        why_unknown: Callable[[], str],
    ) -> None:
        self._parts = log_normaliser, draw, why_unknown
        super().__init__(Size(), shape, validate_args=False)

    @property
    def support(self) -> Any:
        """Zeros and ones."""
        return constraints.independent(constraints.boolean, len(self._event_shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> MachineBits:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    @property
    def no_density(self) -> str:
        """Why it has no density now: log Z is not known; "" where it is."""
        return self._parts[2]()

    def log_density(self, value: Tensor) -> Tensor:
        """Return log p + log Z of values (..., *event), in nats, (...)."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability of values, in nats; NaN where log Z is unknown."""
        found = self.log_density(value) - self._parts[0]()
        return found.expand(torch.broadcast_shapes(self._batch_shape, found.shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw bits, (*sample_shape, *batch, *event), the first of those that chains hold."""
        shape, own = self._extended_shape(sample_shape), math.prod(self._event_shape)
        return self._parts[1](math.prod(shape) // own)[:, :own].reshape(shape)


class HarmoniumBits(MachineBits):
    r"""The bits h of a harmonium, the other layer summed out.

    .. math:: \log p(h) = c \cdot h + A(b + W h) - \log Z

    Args:
        machine: The harmonium.
        parts: As of `MachineBits`: log Z, draws, and why log Z is not known.
    """

    def __init__(self, machine: Harmonium, *parts: Any) -> None:
        self.machine = machine
        # Named here so that it is seen that a draw, which is a constant, depends on them.
        self.weight, self.visible, self.hidden = machine.weight, machine.visible, machine.hidden
        super().__init__(machine.hidden.shape, *parts)

    def log_density(self, value: Tensor) -> Tensor:
        """Return log p + log Z of bits (..., hidden), in nats, (...)."""
        return self.machine.log_hidden(value)
