"""Log weights of many particles, whether or not a program can draw them all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from priory.inference.phases.arguments import Program, is_estimated
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases
from priory.inference.phases.recorder import MismatchError


@torch.no_grad()
def vectorises(model: Program, guide: Program, columns: Mapping[str, Any]) -> bool:
    """Return whether two programs take a leading particle dimension for what it is.

    Draws two particles at once, then scores each alone: the log weights must agree. A program that
    indexes from the left (`z[:, 0]`, `dim=1`) fails, often without an error of its own. Needs
    programs without randomness outside of their sites: put modules into evaluation mode.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: a batch's columns by name.

    Raises:
        MismatchError: if the pair's sites do not match.
    """
    try:
        both = Phases(model, guide, columns=columns, particles=2).awake
        together = both.log_weight()
        for k in range(2):
            alone = Phases(model, guide, columns=columns, latents=both.particle(k)).awake
            score = alone.log_weight()[0]
            if together.shape[1:] != score.shape or not _close(together[k % len(together)], score):
                return False
    except MismatchError:
        raise
    except (RuntimeError, ValueError, IndexError):
        return False
    return True


def log_weights(
    model: Program,
    guide: Program,
    columns: Mapping[str, Any],
    particles: int,
    *,
    together: bool = True,
) -> Tensor:
    """Return log p(x, z) - log q(z | x) of each particle of each datum, `(particles, batch)`.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: a batch's columns by name.
        particles: number of particles.
        together: draw all at once; otherwise one after the other, for programs that do not
            vectorise.

    Raises:
        ValueError: if several are asked of a pair whose log densities are estimates.
    """
    if particles > 1 and is_estimated(model):
        raise ValueError(
            "log p(x) of this pair is an unbiased estimate, and no mean of the estimates' "
            "exponentials is a bound: take one particle, or trace='exact'"
        )
    drawn = _draw(Phases(model, guide, columns=columns, particles=particles), together)
    return torch.cat([awake.log_weight() for awake in drawn])


def bound(phases: Phases, *, together: bool = True) -> Tensor:
    """Return a batch's mean importance-weighted bound, shape (), in nats per datum.

    Args:
        phases: the batch's, with K particles.
        together: as in `log_weights`. A program that neither vectorises nor keeps all its latents
            in the batch plate gets the bound at K = 1, averaged over the particles.
    """
    drawn = list(_draw(phases, together))
    if len(drawn) > 1 and drawn[0].has_shared:
        return torch.stack([a.average(a.log_weight().mean(0)) for a in drawn]).mean()
    log_weight = torch.cat([awake.log_weight() for awake in drawn])
    return drawn[0].average(log_weight.logsumexp(0) - math.log(len(log_weight)))


def _draw(phases: Phases, together: bool) -> Iterator[Phase]:
    """Draw all particles in one awake phase, or each in one of its own."""
    if together:
        yield phases.awake
        return
    for _ in range(phases.particles):
        yield Phases(phases.model, phases.guide, columns=phases.columns).awake


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-2, equal_nan=True)
