"""Hamiltonian Monte Carlo on many chains of many data at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
TARGET = 0.65  # the acceptance that is best in high dimensions
LEAPFROGS = 10
FIRST_STEP = 0.1


class Chains(NamedTuple):
    """What a run of chains leaves behind.

    Args:
        samples: states after warm-up, `(kept, chains, rows, dim)`.
        acceptance: mean acceptance of each datum after warm-up, `(rows,)`.
        step: frozen step size of each datum, `(rows,)`.
    """

    samples: Tensor
    acceptance: Tensor
    step: Tensor


def hmc(
    log_density: LogDensity,
    start: Tensor,
    steps: int,
    *,
    warmup: int,
    leapfrogs: int = LEAPFROGS,
    step: float = FIRST_STEP,
    target: float = TARGET,
    keep: int = 1,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Sample the posterior of each datum by chains whose step sizes are adapted, then frozen.

    A step leaves the density invariant; while it is adapted, the chain does not. So the step size
    of each datum is tuned during the warm-up alone, by its chains' mean acceptance a,

    .. math:: \log \epsilon \leftarrow \log \epsilon + r_t (a - 0.65), \quad
        r_t = \max(t^{-0.6}, 0.1)

    Duane, Kennedy, Pendleton and Roweth 1987, Hybrid Monte Carlo; Neal 2011, MCMC Using Hamiltonian
    Dynamics; Beskos, Pillai, Roberts, Sanz-Serna and Stuart 2013, Optimal Tuning of the Hybrid
    Monte Carlo Algorithm.

    Args:
        log_density: from `(chains, rows, dim)` to `(chains, rows)`, in nats, up to a constant.
        start: where the chains start, `(chains, rows, dim)`.
        steps: transitions after the warm-up.
        warmup: transitions before it.
        leapfrogs: of each transition.
        step: the first step size.
        target: acceptance to aim for.
        keep: every so many states are kept.
        generator: source of random numbers.

    Raises:
        ValueError: if a count is not positive, or the warm-up negative.

    Example:
        >>> chains = hmc(lambda u: -0.5 * u.square().sum(-1), torch.zeros(4, 1, 2), 50, warmup=50)
        >>> chains.samples.shape
        torch.Size([50, 4, 1, 2])
    """
    if min(steps, leapfrogs, keep) < 1 or warmup < 0:
        raise ValueError(
            "steps, leapfrogs and keep must be positive and warmup not negative, got "
            f"{steps}, {leapfrogs}, {keep} and {warmup}"
        )
    sizes = start.new_full(start.shape[1:2], step)
    state = State.at(log_density, start)
    for t in range(warmup):
        state, accepted = transition(log_density, state, sizes, leapfrogs, generator)
        sizes = adapted(sizes, accepted, t, target)
    kept, total = [], torch.zeros_like(sizes)
    for t in range(steps):
        state, accepted = transition(log_density, state, sizes, leapfrogs, generator)
        total += accepted.mean(0)
        if (t + 1) % keep == 0:
            kept.append(state.u)
    samples = torch.stack(kept) if kept else start.new_zeros(0, *start.shape)
    return Chains(samples, total / steps, sizes)


class State(NamedTuple):
    """Where chains are, with their log density and its gradient."""

    u: Tensor
    log_density: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, log_density: LogDensity, u: Tensor) -> State:
        """Return the state of vectors `(chains, rows, dim)` under a density."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            value = log_density(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return cls(leaf.detach(), value.detach(), gradient)


def transition(
    log_density: LogDensity,
    state: State,
    step: Tensor,
    leapfrogs: int,
    generator: torch.Generator | None = None,
) -> tuple[State, Tensor]:
    """Move all chains by one transition that leaves the density invariant.

    A proposal whose density is NaN or infinite is refused.

    Args:
        log_density: as in `hmc`.
        state: where the chains are.
        step: step size of each datum, `(rows,)`.
        leapfrogs: of the trajectory.
        generator: source of random numbers.

    Returns:
        The new state, and the probability of acceptance, `(chains, rows)`.
    """
    size = step.unsqueeze(-1)
    momentum = torch.empty_like(state.u).normal_(generator=generator)
    uniform = torch.empty_like(state.log_density).uniform_(generator=generator)
    kinetic = 0.5 * momentum.square().sum(-1)
    there, p = state, momentum
    for _ in range(leapfrogs):
        p = p + 0.5 * size * there.gradient
        there = State.at(log_density, there.u + size * p)
        p = p + 0.5 * size * there.gradient
    change = there.log_density - state.log_density + kinetic - 0.5 * p.square().sum(-1)
    probability = change.clamp(max=0.0).exp().nan_to_num(0.0)
    taken = uniform < probability
    moved = State(
        torch.where(taken.unsqueeze(-1), there.u, state.u),
        torch.where(taken, there.log_density, state.log_density),
        torch.where(taken.unsqueeze(-1), there.gradient, state.gradient),
    )
    return moved, probability


def adapted(step: Tensor, accepted: Tensor, t: int, target: float = TARGET) -> Tensor:
    """Return step sizes nearer to those of the target acceptance.

    Args:
        step: step size of each datum, `(rows,)`.
        accepted: probabilities of acceptance, `(chains, rows)`.
        t: how many steps have been adapted.
        target: acceptance to aim for.
    """
    rate = max((t + 1) ** -0.6, 0.1)
    grown: Tensor = step * torch.exp(rate * (accepted.mean(0) - target))
    return grown
