"""The bound on held-out data that a run is watched and stopped by."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch

from priory.data import Split
from priory.inference.arguments import Program
from priory.inference.checks import check_plates
from priory.inference.particles import bound, vectorises
from priory.inference.phase import Phase
from priory.inference.phases import Phases
from priory.inference.randomness import own_randomness
from priory.inference.recorder import MismatchError, unscaled
from priory.inference.sites import base

_ROWS = 4096


class NoBound(ValueError):
    """The pair defines no bound on log p(x): an implicit model, say."""


@torch.no_grad()
def validation_bound(
    model: Program, guide: Program, split: Split, *, particles: int = 16, seed: int = 0
) -> float:
    """Answer the mean importance-weighted bound on a split, in nats per datum.

    The model itself is judged: `poutine.scale` is left out.

    Draws from a random state of its own, so that training goes on as if it had not been called.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z given x).
        split: held-out rows.
        particles: K of the bound.
        seed: seed of the draws.

    Raises:
        NoBound: if the guide lacks the model's latents, or a site is a point mass.
    """
    device = split.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with own_randomness(device, seed), pyro.validation_enabled(False), unscaled():
        try:
            first = next(split.batches(8))
            awake = Phases(model, guide, columns=first).awake
            check_plates(awake, len(first["x"]))
            if masses := _point_masses(awake):
                raise NoBound(f"{masses[0]!r} is a point mass, which has no density")
            if reason := awake.no_bound():
                raise NoBound(reason)
            together = vectorises(model, guide, first)
        except MismatchError as error:
            raise NoBound(str(error)) from error
        for batch in split.batches(max(1, _ROWS // particles)):
            phases = Phases(model, guide, columns=batch, particles=particles)
            total += bound(phases, together=together).double() * len(batch["x"])
    return float(total) / len(split)


def _point_masses(awake: Phase) -> list[str]:
    """Answer the sites at which the guide's law, or that of an observation, is a point mass."""
    laws = [] if awake.auxiliary else [(site, "guide") for site in awake.latents]
    laws += [(site, "model") for site in awake.observed]
    return [s for s, of in laws if isinstance(base(awake.distribution(s, of=of)), dist.Delta)]
