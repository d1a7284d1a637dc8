"""Every row of the data many times over: its latents and fresh observations, awake and asleep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import blocks, place
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.particles import log_weights, vectorises
from priory.inference.phases.phases import Phases

Array = NDArray[Any]

_BLOCK = 2000  # rows at a time
_ROWS, _PARTICLES = 100, 100  # at a time, where weights alone are wanted
_AWAKE, _ASLEEP, _PROBE, _WEIGHTS = 70, 71, 72, 73  # random streams


@dataclass(frozen=True)
class Replicates:
    """Draws by site, `(draws, n, *event)`; `(draws, *event)` for what all rows share.

    Args:
        latents: z ~ q(z | x), or of the model's own draws.
        observed: x ~ p(x | z), drawn anew.
        given: the observed values themselves, `(n, *event)`; none asleep.
        densities: `lp` = log p(x, z) and `log_q` = log q(z | x), `(draws, n)`, in nats, if they
            are proper.
        rowwise: names of the sites that have a row for each datum.
    """

    latents: dict[str, Array] = field(default_factory=dict)
    observed: dict[str, Array] = field(default_factory=dict)
    given: dict[str, Array] = field(default_factory=dict)
    densities: dict[str, Array] = field(default_factory=dict)
    rowwise: set[str] = field(default_factory=set)


def replicate(source: Draws, count: int, *, asleep: bool = False) -> Replicates:
    """Draw all latents and observations of each row many times.

    The rows are repeated, so that a pair needs to know of no particles. One that has latents which
    all rows share is run once per draw.

    Args:
        source: the pair and its rows; to be read inside `sealed`.
        count: draws per row.
        asleep: whether the model is sampled, in place of the guide's reading the data.

    Raises:
        Unavailable: if, awake, the guide doesn't draw the model's latents.
    """
    out, n = Replicates(), source.n
    proper = not asleep and _is_proper(source)
    probe = _phase(source, _first(source), asleep, _PROBE, 0) if asleep else source.phase
    size = n if probe.single or probe.has_shared else _BLOCK
    for start in range(0, count * n, size):
        stop = min(start + size, count * n)
        stream = (_ASLEEP if asleep else _AWAKE, start)
        phase = _phase(source, torch.arange(start, stop) % n, asleep, *stream)
        if proper:
            for name, value in (("lp", phase.log_p()), ("log_q", phase.log_q())):
                part = value[0].double().expand(stop - start)
                _put(out.densities, name, part, start, count * n)
        for name in (*phase.latents, *phase.observed):
            distribution = phase.distribution(name, of="model")
            fresh = name in phase.observed and not asleep
            value = _typed(distribution.sample() if fresh else phase.sample[name][0], distribution)
            store = out.latents if name in phase.latents else out.observed
            if _is_rowwise(phase, name, value, stop - start):
                out.rowwise.add(name)
                _put(store, name, value, start, count * n)
            else:
                _put(store, name, value[None], start // n, count)
            if fresh and start < n:
                given = _typed(phase.sample[name], distribution)[: n - start]
                _put(out.given, name, given, start, n if name in out.rowwise else len(given))
    for store in (out.latents, out.observed, out.densities):
        for name, array in store.items():
            if name in out.rowwise or store is out.densities:
                store[name] = array.reshape(count, n, *array.shape[1:])
    _restore(source, out)
    return out


def _restore(source: Draws, out: Replicates) -> None:
    """Put draws of standardised data, and densities of them, into the data's own units."""
    if source.units is None:
        return
    for store in (out.observed, out.given):
        if "x" in store:
            store["x"] = source.units.own(torch.from_numpy(store["x"])).numpy()
    if "lp" in out.densities:
        out.densities["lp"] -= source.log_scale


def importance_weights(source: Draws, count: int) -> Array:
    """Return log p(x, z) - log q(z | x) of many draws of each row, `(count, n)`, in nats.

    Of standardised data in the data's own units.

    Args:
        source: the pair and its rows; to be read inside `sealed`.
        count: draws per row.
    """
    out = np.empty((count, source.n))
    like = placement(source.model, source.guide)
    probe = next(blocks(source.columns, 2, like))[1]
    together = vectorises(source.model, source.guide, probe)
    for start, part in blocks(source.columns, _ROWS, like):
        reseed(next(iter(part.values())).device, source.seed, _WEIGHTS, start)
        for done in range(0, count, _PARTICLES):
            now = min(_PARTICLES, count - done)
            found = log_weights(source.model, source.guide, part, now, together=together)
            out[done : done + now, start : start + _ROWS] = found.double().cpu().numpy()
    return out - source.log_scale


def bytes_per_row(source: Draws) -> float:
    """Return how much memory one draw of all sites takes, per row.

    Args:
        source: the pair and its rows; to be read inside `sealed`.
    """
    index = _first(source)
    phase = _phase(source, index, True, _PROBE, 0)
    values = [phase.sample[name] for name in (*phase.latents, *phase.observed)]
    return sum(value.numel() * value.element_size() for value in values) / len(index)


def _first(source: Draws) -> Tensor:
    return torch.arange(min(2, source.n))


def _phase(source: Draws, index: Tensor, asleep: bool, *stream: int) -> Phase:
    """Return the pair on some rows, with random numbers of their own."""
    chosen = {name: value[index.to(value.device)] for name, value in source.columns.items()}
    rows = place(chosen, placement(source.model, source.guide))
    reseed(next(iter(rows.values())).device, source.seed, *stream)
    phases = Phases(source.model, source.guide, columns=rows)
    return phases.generated if asleep else phases.awake


def _is_proper(source: Draws) -> bool:
    try:
        return source.density is not None
    except Unavailable:
        return False


def _is_rowwise(phase: Phase, name: str, value: Tensor, rows: int) -> bool:
    """Return whether a site sits in the batch plate: its density is then one number per row."""
    event = len(phase.distribution(name, of="model").event_shape)
    return value.dim() > event and phase.log_p(name).shape[-1] == rows


def _typed(value: Tensor, distribution: Any) -> Tensor:
    """Return integers as such: ArviZ counts them rather than smoothing them."""
    try:
        discrete = bool(distribution.support.is_discrete)
    except (AttributeError, NotImplementedError):
        discrete = False
    return value.to(torch.int32) if discrete else value


def _put(store: dict[str, Array], name: str, value: Tensor, start: int, total: int) -> None:
    """Fill in rows of an array, which is made when the first come."""
    part = value.detach().cpu().numpy()
    if name not in store:
        store[name] = np.empty((total, *part.shape[1:]), part.dtype)
    store[name][start : start + len(part)] = part
