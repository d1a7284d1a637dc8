"""Networks of bits that are all connected: Boltzmann machines, and Hopfield's at temperature 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor
from torch.nn.functional import softplus

from priory.distributions.harmonium import MOST, MachineBits, bits_of, log_total


@dataclass(frozen=True)
class Network:
    r"""Bits s with symmetric connections, the first of them visible and the others hidden.

    .. math:: p(s) = \frac1Z \, e^{\frac12 s' W s + b \cdot s}, \qquad
        p(s_i = 1 \mid s_{-i}) = \sigma(b_i + W_i \cdot s)

    Ackley, Hinton and Sejnowski, 1985, A learning algorithm for Boltzmann machines. At temperature
    0 a unit is 1 where its field is above 0, which never raises the energy: `settle` is the network
    of Hopfield, 1982, Neural networks and physical systems with emergent collective computational
    abilities.

    Args:
        weight: W, symmetric, with a diagonal of zeros, (units, units).
        bias: b, (units,).
        hidden: How many of the units, the last ones, are summed out of `log_visible`.

    Raises:
        ValueError: The weight isn't symmetric with a diagonal of zeros; see `hebb`, or take
            A + A' of the part of A below its diagonal.

    Example:
        >>> weight = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> network = Network(weight, torch.tensor([-1.0, -1.0]))
        >>> network.log_density(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        tensor([ 0., -1.,  0.])
    """

    weight: Tensor
    bias: Tensor
    hidden: int = 0

    @property
    def listed(self) -> int:
        """Number of units, whose states can be listed if they are few."""
        return len(self.bias)

    def field(self, s: Tensor) -> Tensor:
        """Return each unit's log-odds given the others, (*batch, units)."""
        return self.bias + s @ self.weight

    def log_density(self, s: Tensor) -> Tensor:
        """Return log p(s) + log Z, the negative energy, in nats, (*batch)."""
        return (s * (self.bias + 0.5 * (s @ self.weight))).sum(-1)

    log_chain = log_density  # of what chains hold

    def log_visible(self, x: Tensor) -> Tensor:
        """Return log p(x) + log Z, the hidden units summed out, in nats, (*batch).

        Args:
            x: The visible units, (*batch, visible).
        """
        if not self.hidden:
            return self.log_density(x)
        n = len(self.bias) - self.hidden
        h = bits_of(torch.arange(1 << self.hidden, device=x.device), self.hidden, x)
        inner = Network(self.weight[n:, n:], self.bias[n:]).log_density(h)
        outer = Network(self.weight[:n, :n], self.bias[:n]).log_density(x)
        return outer + (inner + x @ self.weight[:n, n:] @ h.mT).logsumexp(-1)

    def log_normaliser(self) -> Tensor:
        """Return log Z, shape (), exactly, by all states of the visible units.

        Raises:
            ValueError: There are more units than can be listed.
        """
        if self.listed > MOST:
            raise ValueError(
                f"log Z is exact by enumeration up to {MOST} bits, and the network has "
                f"{self.listed}"
            )
        return log_total(self.log_visible, self.listed - self.hidden, self.weight)

    @torch.no_grad()
    def turn(self, s: Tensor, beta: float = 1.0, base: Tensor | None = None) -> Tensor:
        """Return states after each unit in turn is drawn given the others: a sweep of Gibbs.

        Args:
            s: States, (*batch, units).
            beta: Inverse temperature.
            base: Fields at 0, which count 1 - beta, (units,).
        """
        start = 0.0 if base is None else (1 - beta) * base
        bias, s, u = beta * self.bias + start, s.clone(), torch.rand_like(s)
        for i in range(s.shape[-1]):
            odds = bias[i] + beta * (s @ self.weight[:, i])
            s[..., i] = (u[..., i] < odds.sigmoid()).to(s.dtype)
        return s

    @torch.no_grad()
    def cool(self, s: Tensor) -> Tensor:
        """Return states after each unit in turn takes its likelier value: a sweep at temperature 0.

        A unit without a field stays as it is.

        Args:
            s: States, (*batch, units).
        """
        s = s.clone()
        for i in range(s.shape[-1]):
            field = self.bias[i] + s @ self.weight[:, i]
            s[..., i] = torch.where(field == 0, s[..., i], (field > 0).to(s.dtype))
        return s

    def settle(self, s: Tensor, sweeps: int = 1000) -> Tensor:
        """Return the states at which sweeps at temperature 0 end: what is retrieved from s.

        Args:
            s: States, (*batch, units).
            sweeps: At most.

        Raises:
            RuntimeError: They have not come to an end.
        """
        for _ in range(sweeps):
            former, s = s, self.cool(s)
            if torch.equal(former, s):
                return s
        raise RuntimeError(f"the network does not settle within {sweeps} sweeps; allow more")

    # What annealing takes of any machine; see `Harmonium`.

    def at_base(self, base: Tensor, chains: int) -> Tensor:
        """Draw states of independent units, (chains, units)."""
        return torch.bernoulli(base.sigmoid().expand(chains, -1))

    def log_first(self, base: Tensor) -> Tensor:
        """Return log Z of independent units, shape ()."""
        return softplus(base).sum()

    def anneal(
        self, x: Tensor, low: float, high: float, beta: float, base: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log density gained between two temperatures, and states moved at one."""
        gain = (high - low) * (self.log_density(x) - x @ base)
        return gain, self.turn(x, beta, base) if 0 < beta < 1 else x

    def sweep(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return states after a sweep of Gibbs, twice: annealed, and to go on from."""
        s = self.turn(s)
        return s, s


def hebb(patterns: Tensor) -> Network:
    r"""Return the network that stores patterns by Hebb's rule.

    .. math:: W = 4 \sum_p \xi_p \xi_p' \text{ off the diagonal}, \quad
        b = -\tfrac12 W 1, \qquad \xi = 2 x - 1

    In units of :math:`\pm 1` it is the sum of the patterns' products, without thresholds. Patterns
    that are orthogonal in these are fixed points, and up to about 0.138 n random ones nearly so.
    Hopfield, 1982, Neural networks and physical systems with emergent collective computational
    abilities.

    Args:
        patterns: Bits, (patterns, units).

    Raises:
        ValueError: They are no rows of bits.

    Example:
        >>> pattern = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0]])
        >>> hebb(pattern).settle(torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))
        tensor([1., 1., 0., 0., 1.])
    """
    if patterns.dim() != 2 or not ((patterns == 0) | (patterns == 1)).all():
        raise ValueError(
            f"patterns must be rows of bits, (patterns, units), got {tuple(patterns.shape)}; "
            "flatten and binarise the data"
        )
    signs = 2 * patterns - 1
    weight = (4 * signs.mT @ signs).fill_diagonal_(0)  # integers: fields are exact
    return Network(weight, -0.5 * weight.sum(0))


class NetworkBits(MachineBits):
    """The visible bits of a network, as data of any shape.

    Args:
        network: The network.
        shape: Of a datum.
        parts: As of `MachineBits`: log Z, draws of all units, and why log Z is not known.
    """

    def __init__(self, network: Network, shape: Size, *parts: Any) -> None:
        self.network = network
        # Named here so that it is seen that a draw, which is a constant, depends on them.
        self.weight, self.bias = network.weight, network.bias
        super().__init__(shape, *parts)

    def log_density(self, value: Tensor) -> Tensor:
        """Return log p + log Z of data (..., *shape), in nats, (...)."""
        return self.network.log_visible(value.flatten(value.dim() - len(self._event_shape)))
