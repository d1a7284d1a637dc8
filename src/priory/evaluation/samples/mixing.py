"""How chains without an end mix: from where on they are stationary, and what draws are worth.

Chains of a pair such as `DAE` are followed in the leading principal coordinates of the data, in
which modes lie apart. Of a chain that ends, such as a diffusion, no two states are draws of one
distribution, and there is nothing to mix.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.arviz.container import import_arviz
from priory.evaluation.draws import Draws
from priory.evaluation.isolation import reseed
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import place, rows_of
from priory.inference.phases.arguments import owner
from priory.models import DenoisingChain

_STREAM = 80  # random
_COORDINATES = 5
_CHAINS = 4  # whose draws are compared over time
_AWAY = 3.0  # standard errors


class Paths(NamedTuple):
    """Chains over time, in principal coordinates of the data.

    Args:
        coordinates: `(time, chains, k)`, the start first.
        burn_in: the pair's own number of steps.
    """

    coordinates: Tensor
    burn_in: int


def paths_of(draws: Draws) -> Paths:
    """Return chains over `burn_in` and then `steps` steps, drawn once for all metrics.

    Args:
        draws: of a pair, as many chains as there are rows for slow metrics.

    Raises:
        Unavailable: the pair has no chain without an end, or a state is NaN or infinite.
    """
    pair: Any = owner(draws.model)
    if not isinstance(pair, DenoisingChain):
        raise Unavailable("the model is no chain without an end, such as a DAE or a GSN")
    return draws.once("paths", lambda: _walked(draws, pair))


def _walked(draws: Draws, pair: DenoisingChain) -> Paths:
    x = rows_of(draws.x).double().cpu()
    centre = x.mean(0)
    _, lengths, axes = torch.linalg.svd(x - centre, full_matrices=False)
    count = max(1, min(_COORDINATES, int((lengths > 1e-9 * lengths[:1]).sum())))
    like = next(iter(place({"x": draws.x[:1]}, draws._like).values()))
    reseed(like.device, draws.seed, _STREAM)
    found = []
    for states in pair.way(max(draws.few, _CHAINS), pair.burn_in + draws.steps):
        check_finite("states of a chain", states.cpu())
        found.append((rows_of(states).double().cpu() - centre) @ axes[:count].T)
    return Paths(torch.stack(found), pair.burn_in)


@metric("samples", "x", better="lower")
def chain_burn_in(draws: Draws) -> Estimate:
    """Count of steps until the chains' mean is where it stays, in principal coordinates."""
    paths = paths_of(draws)
    later = paths.coordinates[len(paths.coordinates) // 2 :]
    error = later.std(1).mean(0) / math.sqrt(later.shape[1])
    away = (paths.coordinates.mean(1) - later.mean((0, 1))).abs() / error.clamp(min=1e-12)
    arrived = (away < _AWAY).all(1).nonzero().flatten()
    if not len(arrived):
        raise Unavailable(f"in {len(away) - 1:,} steps the chains' mean does not come to rest")
    first = int(arrived[0])
    note = (
        f"of {later.shape[1]} chains, within {_AWAY:.0f} standard errors of the mean of the later "
        f"half of {len(away) - 1:,} steps; the pair's own burn_in is {paths.burn_in}"
    )
    short = Doubt(
        "samples are taken before the chains are stationary: raise burn_in", Remedy.BURN_IN
    )
    return Estimate(
        float(first),
        None,
        later.shape[1],
        "biased",
        unit="steps",
        note=note,
        warnings=(short,) if first > paths.burn_in else (),
    )


@metric("samples", "x", better="lower")
def chain_rhat(draws: Draws) -> Estimate:
    """Largest R-hat of chains after their burn-in, over principal coordinates of the data."""
    settled, note = _settled(paths_of(draws))
    values = [float(import_arviz().rhat(series)) for series in settled]
    worst = float(np.nanmax(values)) if np.isfinite(values).any() else math.nan
    if math.isnan(worst):
        raise Unavailable("the chains stand still: R-hat of a constant is not defined")
    return Estimate(worst, None, settled.shape[1], "biased", note=f"rank-normalised, split; {note}")


@metric("samples", "x", better="higher")
def chain_ess(draws: Draws) -> Estimate:
    """Smallest effective share of a chain's draws, over principal coordinates of the data."""
    settled, note = _settled(paths_of(draws))
    total = settled.shape[1] * settled.shape[2]
    values = [float(import_arviz().ess(series)) / total for series in settled]
    if not np.isfinite(values).all():
        raise Unavailable("the chains stand still: a constant has no effective sample size")
    return Estimate(min(values), None, settled.shape[1], "biased", note=f"bulk; {note}")


def _settled(paths: Paths) -> tuple[np.ndarray[Any, Any], str]:
    """Return some chains after their burn-in, `(k, chains, draws)`, and what they are."""
    after = paths.coordinates[1 + paths.burn_in :, :_CHAINS]
    if len(after) < 4:
        raise Unavailable(f"{len(after)} steps after the burn-in are too few: raise steps to 4")
    note = f"{after.shape[1]} chains of {len(after):,} steps after {paths.burn_in} of burn-in"
    return after.permute(2, 1, 0).numpy(), note
