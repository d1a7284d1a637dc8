"""The log normaliser of a Boltzmann machine, by annealed importance sampling in both directions."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from priory.distributions.harmonium import MOST, Harmonium
from priory.distributions.network import Network
from priory.inference.modules import modules
from priory.inference.randomness import own_randomness
from priory.priors.boltzmann import Machine, Normaliser, machines_in

TEMPERATURES = 4000
CHAINS = 100
BURN_IN = 1000
"""Sweeps from the persistent chains to the start of the way back."""
GAP = 1.0
"""Nats between the two directions, above which log Z is not known."""
_SEED = 60  # of all that is drawn here, whatever the evaluation's own
_PARTS = ((500, 0.0, 0.5), (4000, 0.5, 0.9), (10_000, 0.9, 1.0))
_KNOWN: WeakKeyDictionary[Machine, tuple[str, Normaliser]] = WeakKeyDictionary()


class Both(NamedTuple):
    """log Z in both directions, in nats.

    Args:
        forward: From independent units: in expectation at most log Z.
        forward_se: Its standard error.
        backward: From the persistent chains: in expectation at least log Z, if they have mixed.
        backward_se: Its standard error.
    """

    forward: float
    forward_se: float
    backward: float
    backward_se: float


def temperatures(steps: int = TEMPERATURES) -> Tensor:
    """Return inverse temperatures from 0 to 1, densest near 1, (steps + 1,).

    In the shares of Salakhutdinov and Murray, 2008, On the quantitative analysis of deep belief
    networks: 500 up to 0.5, 4,000 up to 0.9, 10,000 up to 1.

    Args:
        steps: Number of steps; 3 or more.

    Example:
        >>> temperatures(29)[[0, 1, 9, 29]]
        tensor([0.0000, 0.5000, 0.9000, 1.0000], dtype=torch.float64)
    """
    total = sum(part[0] for part in _PARTS)
    ends = [0, *(max(i, round(steps * sum(p[0] for p in _PARTS[:i]) / total)) for i in (1, 2))]
    counts = [b - a for a, b in zip(ends, [*ends[1:], steps], strict=True)]
    parts = [
        torch.linspace(low, high, count + 1, dtype=torch.float64)[1:]
        for count, (_, low, high) in zip(counts, _PARTS, strict=True)
    ]
    return torch.cat([torch.zeros(1, dtype=torch.float64), *parts])


@torch.no_grad()
def annealed(
    machine: Harmonium | Network,
    base: Tensor,
    betas: Tensor,
    x: Tensor | None = None,
    chains: int = CHAINS,
) -> Tensor:
    r"""Return each chain's estimate of log Z by annealing one way, (chains,), in float64.

    .. math:: \log \hat Z = \log Z_0 \pm \sum_t \log f_{\beta_t}(x) - \log f_{\beta_{t - 1}}(x)

    with the bits of a second layer summed out of f. Forwards :math:`e^{\log \hat Z}` is unbiased,
    so that its mean's logarithm is in expectation a lower bound; back from exact samples
    :math:`e^{-\log \hat Z}` is.
    Neal, 2001, Annealed importance sampling; Burda, Grosse and Salakhutdinov, 2015, Accurate and
    conservative estimates of MRF log-likelihood using reverse annealing.

    Args:
        machine: At temperature 1.
        base: Fields of x at infinite temperature, (visible,).
        betas: Inverse temperatures, from 0 to 1, (steps + 1,).
        x: Samples of the machine to go back from, (chains, *shape); forwards if None.
        chains: Number of chains forwards.
    """
    back = x is not None
    steps = [float(b) for b in betas]
    if x is None:
        x = machine.at_base(base, chains)
    log_w = x.new_zeros(len(x), dtype=torch.float64)
    pairs = list(itertools.pairwise(steps))
    for low, high in reversed(pairs) if back else pairs:
        gain, x = machine.anneal(x, low, high, low if back else high, base)
        log_w += gain.double()
    return machine.log_first(base).double() + log_w


def averaged(log_z: Tensor, sign: float = 1.0) -> tuple[float, float]:
    r"""Return the logarithm of the mean of :math:`\hat Z^{\pm 1}`, with its sign, and its error.

    Args:
        log_z: Of each chain, (chains,).
        sign: 1 for those forwards, -1 for those back.
    """
    n, signed = len(log_z), sign * log_z
    mean = signed.logsumexp(0) - math.log(n)
    spread = (signed - mean).exp().std() / math.sqrt(n) if n > 1 else torch.tensor(math.nan)
    return float(sign * mean), float(spread)


def both_ways(
    machine: Harmonium | Network,
    base: Tensor,
    start: Tensor,
    *,
    steps: int = TEMPERATURES,
    chains: int = CHAINS,
    burn_in: int = BURN_IN,
) -> Both:
    """Return log Z by annealing forwards from independent units, and back from a machine's chains.

    Args:
        machine: At temperature 1.
        base: Fields of x at infinite temperature, (visible,).
        start: Bits h of the persistent chains, (n, hidden).
        steps: Temperatures.
        chains: In each direction.
        burn_in: Sweeps from the persistent chains to the start of the way back.

    Example:
        >>> from priory.distributions.harmonium import Harmonium
        >>> machine = Harmonium(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> found = both_ways(machine, torch.zeros(3), torch.zeros(4, 2), steps=5, burn_in=1)
        >>> round(found.forward, 4), found.forward_se, round(found.backward, 4)
        (3.4657, 0.0, 3.4657)
    """
    betas = temperatures(steps)
    h = start[torch.arange(chains, device=start.device) % len(start)]
    for _ in range(burn_in):
        x, h = machine.sweep(h)
    forward = averaged(annealed(machine, base, betas, chains=chains))
    backward = averaged(annealed(machine, base, betas, x), -1.0)
    return Both(*forward, *backward)


def normaliser(machine: Harmonium | Network, base: Tensor, start: Tensor) -> Normaliser:
    """Return what is known of log Z: exactly up to 20 bits, else by annealing both ways.

    Args:
        machine: At temperature 1.
        base: Fields of x at infinite temperature, (visible,).
        start: Bits h of the persistent chains, (n, hidden).
    """
    if machine.listed <= MOST:
        return Normaliser(float(machine.log_normaliser()), 0.0, "log Z by enumeration")
    found = both_ways(machine, base, start, steps=TEMPERATURES, burn_in=BURN_IN)
    ends = found.forward, found.backward
    gap = abs(found.forward - found.backward)
    ways = (
        f"{found.forward:.2f} ± {found.forward_se:.2f} forwards and {found.backward:.2f} ± "
        f"{found.backward_se:.2f} back"
    )
    if not gap <= GAP:  # NaN too
        return Normaliser(
            math.nan,
            math.nan,
            f"log Z of the Boltzmann machine is not known: annealing finds {ways}, more than "
            f"{GAP:g} nat apart, as its chains do not mix; let the rate fall to 0 "
            "(schedule='linear'), train longer, or take temperatures=10",
            ends,
        )
    se = math.sqrt((found.forward_se**2 + found.backward_se**2 + gap**2) / 4)
    middle = (found.forward + found.backward) / 2
    note = f"log Z = {middle:.2f} ± {se:.2f} by annealing, {ways}; its error is counted"
    return Normaliser(middle, se, note, ends)


@contextmanager
def knowing(*programs: Any) -> Iterator[None]:
    """Let the machines of programs find their log Z, if it is asked for, and forget it afterwards.

    It is found once for each set of weights.

    Args:
        programs: A pair's.
    """
    owners = [*machines_in(modules(*programs))]
    former = [(o.machine, o.machine.find, o.machine.found) for o in owners]
    try:
        for owner in owners:
            owner.machine.find = partial(_find, owner)
        yield
    finally:
        for machine, find, found in former:
            machine.find, machine.found = find, found


def known_of(*programs: Any) -> Normaliser | None:
    """Return what is known of the log Z of all machines of programs together, inside `knowing`.

    Args:
        programs: A pair's.

    Returns:
        None where none of them has one that had to be found.
    """
    parts = [o.machine.known(o.harmonium()) for o in machines_in(modules(*programs))]
    found = [part for part in parts if part is not None]
    if not found:
        return None
    total = sum(part.log_z for part in found)
    se = math.sqrt(sum(part.se**2 for part in found))
    ways = found[0].ways if len(found) == 1 else ()
    return Normaliser(total, se, "; ".join(part.note for part in found), ways)


def _find(owner: Any) -> Normaliser:
    """Return what is known of a part's machine, once for its weights."""
    machine = owner.machine
    digest = _digest(owner.state_dict())
    kept = _KNOWN.get(machine)
    if kept is None or kept[0] != digest:
        with own_randomness(machine.weight.device, _SEED), torch.no_grad():
            found = normaliser(owner.harmonium(), machine.base, machine.chains[0])
        kept = _KNOWN[machine] = digest, found
    return kept[1]


def _digest(state: dict[str, Any]) -> str:
    """Return a hash of the weights and the chains."""
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode())
        if isinstance(value, Tensor):
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
