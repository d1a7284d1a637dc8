"""Traversals: what p(x | z) shows while one coordinate moves, or on the way from a tree's root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.independent import of_one_number
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.steps import refuse_way
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, place, rows_of, thin
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError, Recorder
from priory.inference.phases.sites import is_latent
from priory.priors import NestedCRP

TREE = "tree"
QUANTILES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
_STREAM = 54
_ROWS = 500  # rows, or samples, whose latents give the quantiles
_ACTIVE = 0.01  # of the largest change of the mean, which an active coordinate's is at least
_BETWEEN = 2  # steps from a node to its child


class Traversal(NamedTuple):
    """Means of p(x | z) along ways through a latent site.

    Args:
        frames: `(rows, steps, *shape)`, on the CPU.
        labels: what each row moves.
        steps: quantiles, or levels of a tree, `(steps,)`.
        note: how many rows there could be, and what the others hold still.
    """

    frames: Tensor
    labels: tuple[str, ...]
    steps: tuple[float, ...]
    note: str


class _Latents(NamedTuple):
    """Latents of some rows, all sites in the order of the model."""

    rows: Columns
    values: dict[str, Tensor]
    supports: dict[str, Any]


def traverse(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    columns: Columns,
    site: str,
    *,
    rows: int = 10,
    quantiles: tuple[float, ...] = QUANTILES,
    seed: int = 0,
) -> Traversal:
    r"""Move one coordinate of a latent site over its quantiles, and the others not at all.

    They start at a typical datum, whose latents are as far from their mean as the median. Sites
    that the model draws before stay its own, as of a layer above; those that it draws after are
    their means given what is moved. Coordinates are ordered by how much the mean of p(x | z) moves
    with them, and those that move it by less than 1% of the most active one's squared change are
    left out. On a simplex the other coordinates share what is left. Of a model whose guide draws
    nothing, latents are those of samples.

    Higgins et al., 2017, beta-VAE: learning basic visual concepts with a constrained variational
    framework.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: data by name, `(n, ...)`, of which 500 rows are looked at.
        site: the latent site's name, such as z or z2.
        rows: coordinates, at most.
        quantiles: of the coordinate's posterior means, within [0, 1].
        seed: seed of samples.

    Raises:
        Unavailable: if there is no such site, its values are discrete, or p(x | z) has no mean.

    Example:
        >>> traverse(run.pair.model, run.pair.guide, {"x": x}, "z").frames.shape[1]
        7
    """
    if rows < 1 or not quantiles or not all(0 <= q <= 1 for q in quantiles):
        raise ValueError(
            f"expected at least 1 row and quantiles from 0 to 1, got {rows} and {quantiles}"
        )
    with sealed(model, guide):
        found = _latents(model, guide, columns, seed)
        value = _continuous(found, site)
        flat = rows_of(value)
        levels = flat.quantile(torch.tensor(quantiles, dtype=flat.dtype, device=flat.device), dim=0)
        spread = flat.std(0, correction=0).clamp(min=torch.finfo(flat.dtype).tiny)
        apart = ((flat - flat.mean(0)) / spread).square().sum(1)
        base = int(apart.argsort()[len(apart) // 2])
        ways = flat[base].repeat(flat.shape[1], len(quantiles), 1)
        for i in range(flat.shape[1]):
            if found.supports[site] is constraints.simplex:
                rest = flat[base].clamp(min=torch.finfo(flat.dtype).tiny)
                rest = rest * (torch.arange(len(rest), device=rest.device) != i)
                ways[i] = rest / rest.sum() * (1 - levels[:, i : i + 1])
            ways[i, :, i] = levels[:, i]
        points = ways.reshape(-1, *value.shape[1:])
        frames = _means(model, found, base, site, points).unflatten(0, ways.shape[:2])
    change = frames.double().var(1, correction=0).flatten(1).sum(1)
    order = change.argsort(descending=True)
    active = order[change[order] >= _ACTIVE * change.max()]
    note = f"{len(active)} of {len(order)} coordinates of {site} move the mean of p(x | {site})"
    shown = active[:rows]
    labels = tuple(f"{site}[{i}]" for i in shown.tolist())
    return Traversal(frames[shown], labels, quantiles, note)


def traverse_tree(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    columns: Columns,
    *,
    rows: int = 12,
    seed: int = 0,
) -> Traversal:
    """Go from the root of a tree prior to its most probable leaves, siblings side by side.

    Args:
        model: Pyro program of p(x, z), of one latent site.
        guide: Pyro program of q(z | x).
        columns: data by name; they give the shapes.
        rows: leaves, at most.
        seed: seed of samples.

    Raises:
        Unavailable: if the prior is no tree, there are several latents, or p(x | z) has no mean.
    """
    prior = getattr(owner(model), "prior", None)
    if not isinstance(prior, NestedCRP):
        raise Unavailable("the pair's prior is no tree, as nested-crp is")
    with sealed(model, guide):
        found = _latents(model, guide, columns, seed)
        if len(found.values) != 1:
            raise Unavailable(f"needs exactly one latent site; the model has {len(found.values)}")
        used = int(prior.in_use().sum())
        order = prior.log_weights().argsort(descending=True)[:used]
        leaves = order[:rows].sort().values
        share = prior.log_weights().exp()[leaves].tolist()
        above = range(prior.depth, -1, -1)
        nodes = [leaves // prior.branching**k for k in above]
        means = torch.stack([prior.means(k)[node] for k, node in enumerate(nodes)], 1)
        steps = torch.arange(prior.depth * _BETWEEN + 1) / _BETWEEN
        low = steps.long().clamp(max=prior.depth - 1)
        part = (steps - low).to(means).unsqueeze(-1)
        ways = means[:, low] * (1 - part) + means[:, low + 1] * part
        site = next(iter(found.values))
        frames = _means(model, found, 0, site, ways.flatten(0, 1)).unflatten(0, ways.shape[:2])
    names = [
        ".".join(str(int(n[i]) % prior.branching + 1) for n in nodes[1:])
        for i in range(len(leaves))
    ]
    labels = tuple(f"{name} ({p:.0%})" for name, p in zip(names, share, strict=True))
    note = f"the {len(leaves)} most probable of {used} leaves"
    return Traversal(frames, labels, tuple(steps.tolist()), note)


def _latents(
    model: Callable[..., Any], guide: Callable[..., Any], columns: Columns, seed: int
) -> _Latents:
    """Return the guide's means of some rows, or the latents of as many samples."""
    refuse_way(model)
    like = placement(model, guide)
    rows = place(thin(columns, _ROWS), like)
    reseed(rows["x"].device, seed, _STREAM)
    recorder = Recorder()
    with recorder:
        guide(**bind(guide, rows))
    phases = Phases(model, guide, columns=rows)
    try:
        guided = any(is_latent(s) for s in recorder.sites.values())
        phase = phases.at_means if guided else phases.generated
    except MismatchError as error:
        raise Unavailable(str(error)) from error
    except ValueError as error:
        raise Unavailable(f"a latent has no mean to start from: {error}") from error
    values = {site: phase.sample[site][0] for site in phase.latents}
    supports = {s: of_one_number(phase.distribution(s, of="model").support) for s in values}
    return _Latents(rows, values, supports)


def _continuous(found: _Latents, site: str) -> Tensor:
    """Return the values of a site, one row for each datum."""
    if site not in found.values:
        known = ", ".join(found.values) or "none"
        raise Unavailable(f"the model has no latent {site!r}; its latents: {known}")
    value, rows = found.values[site], len(found.rows["x"])
    if found.supports[site].is_discrete or not value.is_floating_point():
        raise Unavailable(f"{site} is discrete: it has no quantiles to move over")
    if len(value) != rows:
        raise Unavailable(f"{site} is shared by all data: no datum has its own latent")
    return value


def _means(
    model: Callable[..., Any], found: _Latents, base: int, site: str, points: Tensor
) -> Tensor:
    """Return the means of p(x | .) of the base datum with other values of a site, on the CPU."""
    before = [*found.values][: [*found.values].index(site)]
    given = {name: value[base : base + 1] for name, value in found.rows.items()}
    parts = []
    for z in points.split(_ROWS):
        held = {n: v[base].expand(len(z), *v.shape[1:]) for n, v in found.values.items()}
        replay = {n: held[n] for n in before} | {site: z}
        drawn = generate(model, given, len(z), replay, point=True)
        if "x_mean" not in drawn:
            raise Unavailable("p(x | z) has no mean that a picture could show")
        parts.append(drawn["x_mean"].reshape(len(z), *found.rows["x"].shape[1:]).cpu())
    return torch.cat(parts)
