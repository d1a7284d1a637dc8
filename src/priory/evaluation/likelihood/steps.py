"""The bound of a Markov chain, summed over its steps with their divergences in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch

from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.bound import Bounds
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, blocks, check
from priory.inference.distributed import ranks
from priory.inference.phases.arguments import bind, owner
from priory.models.chain import FORGOTTEN, LatentChain, MarkovChain, Terms

_STREAM = 1  # that of the K-sample bound, in whose place it stands
_ROWS = 512


def chain_of(model: Callable[..., Any]) -> MarkovChain | None:
    """Return the chain whose model a program is, None if it is no chain's or has no bound."""
    own = owner(model)
    return own if isinstance(own, MarkovChain) and "bound" in own.weightings else None


def refuse_way(model: Callable[..., Any]) -> None:
    """Raise Unavailable if a model's latent is the way of a chain, which is no code of a datum."""
    if isinstance(own := owner(model), LatentChain):
        raise Unavailable(
            f"z is the whole way of a chain, {own.timesteps} ever noisier states of the datum, "
            "and no code of it"
        )


def step_terms(chain: MarkovChain, data: Columns, particles: int = 1000, seed: int = 0) -> Terms:
    """Return the parts of a chain's negative bound, each (n,), in nats, on the CPU.

    Args:
        chain: Whose.
        data: Columns by name.
        particles: K; see `MarkovChain.draws_of_each`.
        seed: Of the draws.
    """
    columns = check(data)
    like = placement(chain)
    total = len(next(iter(columns.values())))
    out = torch.zeros(len(Terms._fields), total, dtype=torch.float64)
    device = next(iter(columns.values())).device if like is None else like.device
    with sealed(chain, device=device):
        own = itertools.islice(blocks(columns, _ROWS, like), ranks.rank(), None, ranks.world())
        for start, rows in own:
            reseed(device, seed, _STREAM, start)
            taken = bind(chain.model, rows)
            found = chain.terms(**taken, draws=chain.draws_of_each(particles))
            out[:, start : start + len(found.datum)] = torch.stack([*found]).cpu()
    return Terms(*ranks.total_(out))


def step_bounds(terms: Terms) -> Bounds:
    """Return a chain's bounds: the ELBO in both places, and no importance weights."""
    bound = -terms.total
    unknown = torch.full_like(bound, math.nan)
    return Bounds(bound, bound, unknown, unknown)


@metric("likelihood", "density", better="lower")
def end_kl(draws: Any) -> Estimate:
    """KL of a chain's last state from its start, per dimension: what the noise leaves of the data.

    Above 0.001 nats the way is too short, and samples begin where no datum ever ends.
    """
    chain = chain_of(draws.model)
    if chain is None:
        raise Unavailable("the model is no Markov chain: it has no last state")
    terms: Terms = draws.terms
    values = terms.end / draws.x[0].numel()
    parts = {
        "the datum": terms.datum,
        f"steps 2 to {chain.timesteps}": terms.steps,
        "the end": terms.end,
    }
    said = ", ".join(f"{float(nats.mean()):.4g} of {name}" for name, nats in parts.items())
    much = float(values.mean()) >= FORGOTTEN
    text = f"the last state knows {FORGOTTEN:g} nats per dimension or more: take more steps"
    return Estimate.mean(
        values,
        kind="exact",
        unit="nats",
        note=f"per dimension; the negative bound in nats: {said}",
        warnings=(Doubt(text, Remedy.STEPS),) if much else (),
    )
