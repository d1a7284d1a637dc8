"""Recorded sample sites of a Pyro program: what they are, and how they score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor

Site = dict[str, Any]

BATCH_PLATE = "data"


def pick(sites: Mapping[str, Site], name: str, program: str) -> Site:
    """Return a site by name, or raise a KeyError that lists the sites."""
    if name not in sites:
        raise KeyError(f"the {program} has no site {name!r}; it has {', '.join(sites) or 'none'}")
    return sites[name]


def batch_frame(site: Site) -> Any:
    """Return the batch plate's frame around a site, `None` outside of the plate."""
    for frame in site["cond_indep_stack"]:
        if frame.name == BATCH_PLATE and frame.vectorized:
            return frame
    return None


def check_batch_plate(sites: Iterable[Site], rows: int) -> None:
    """Raise if data, or latents of single data, are in a plate of the batch's size of another name.

    Without the batch plate the whole batch would count as one datum.

    Args:
        sites: those of a program that belong to single data.
        rows: of the batch.

    Raises:
        ValueError: naming the plate.
    """
    frames = [f for s in sites for f in s["cond_indep_stack"] if f.vectorized]
    if rows > 1 and all(f.name != BATCH_PLATE for f in frames):
        for frame in frames:
            if frame.size == rows:
                raise ValueError(
                    f"the batch's {rows} rows are in a plate called {frame.name!r}; call it "
                    f"{BATCH_PLATE!r}, in the model and in the guide, so that its rows are "
                    "known to be the data"
                )


def in_batch(site: Site) -> bool:
    """Return whether a site sits in the batch plate."""
    return batch_frame(site) is not None


def depth(sites: Iterable[Site], single: bool) -> int:
    """Return how many dimensions the plates of the batch's sites take, at least one."""
    local = (s for s in sites if single or in_batch(s))
    return max((-f.dim for s in local for f in s["cond_indep_stack"] if f.vectorized), default=1)


def is_deterministic(site: Site) -> bool:
    """Return whether a site is a `pyro.deterministic` statement, without a density."""
    return bool(site["infer"].get("_deterministic"))


def is_observed(site: Site) -> bool:
    """Return whether a site's value was given by `obs`."""
    return bool(site["is_observed"])


def is_observation(site: Site) -> bool:
    """Return whether a site holds data (or, asleep, would)."""
    seen = is_observed(site) or site["infer"].get("was_observed", False)
    return bool(seen) and not is_deterministic(site)


def is_latent(site: Site) -> bool:
    """Return whether a site is a latent of its program."""
    return not is_observed(site) and not site["infer"].get("was_observed", False)


def inner_scale(site: Site) -> Any:
    """Return a site's scale without the batch plate's own N / batch."""
    scale, frame = site["scale"], batch_frame(site)
    if frame is None or frame.full_size in (None, frame.size):
        return scale
    inner = scale * frame.size / frame.full_size
    return 1.0 if isinstance(inner, float) and math.isclose(inner, 1.0, rel_tol=1e-12) else inner


def is_discrete(distribution: Any) -> bool:
    """Return whether a distribution is discrete; one that does not know its support isn't.

    Args:
        distribution: The distribution.
    """
    try:
        return bool(distribution.support.is_discrete)
    except NotImplementedError:
        return False


def is_stratified(site: Site) -> bool:
    """Return whether a site's draws can be taken from each component of a mixture in turn."""
    return bool(getattr(site["fn"], "strata", 0))


def base(distribution: Any) -> Any:
    """Return a distribution without what was wrapped around it."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def same(a: Any, b: Any) -> bool:
    """Return whether two scales are the same number, or the same tensor."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return math.isclose(a, b, rel_tol=1e-12)


def log_prob(site: Site) -> Tensor:
    """Return a site's masked log density over its batch shape, without any scale."""
    return masked(site, site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]))


def masked(site: Site, score: Tensor) -> Tensor:
    """Leave out the elements of a score that the site's mask leaves out."""
    mask = site["mask"]
    if mask is False:
        return torch.zeros_like(score)
    return torch.where(mask, score, score.new_zeros(())) if isinstance(mask, Tensor) else score


def element_masks(site: Site) -> list[Tensor]:
    """Return the masks of a site and of its distribution, to be broadcast with its values."""
    distribution = site["fn"]
    found = [(site["mask"], distribution.event_dim)]
    while hasattr(distribution, "base_dist"):
        if isinstance(distribution, MaskedDistribution):
            found.append((distribution._mask, distribution.event_dim))
        distribution = distribution.base_dist
    masks = [(torch.as_tensor(m), n) for m, n in found if m is not None and m is not True]
    return [m.reshape(*m.shape, *(1,) * n) for m, n in masks]


def plates_scale(site: Site) -> float:
    """Return the scale that a site has from its subsampled plates alone, the batch's included."""
    frames = site["cond_indep_stack"]
    parts = (f.full_size / f.size for f in frames if f.full_size not in (None, f.size))
    return math.prod(parts)


def rows_of(site: Site, value: Tensor, nesting: int = 0, *, single: bool = False) -> Tensor:
    """Return a site's value with particles and batch first and flattened, `(rows, ...)`.

    Inner plates stay, before the event: `(rows, *inner plates, *event)`; a dimension of one
    element that is no plate's goes. A site outside of the batch plate is one row.

    Args:
        site: whose value it is, or would be.
        value: `(*particles, *plates, *event)`.
        nesting: number of plate dimensions to the right of the particles; 0 if there are none.
        single: there is no batch plate: rows are the first dimension.
    """
    batch, event = site["fn"].batch_shape, site["fn"].event_shape
    if value.dim() < len(batch) + len(event):
        value = value.expand(torch.broadcast_shapes(value.shape, batch + event))
    lead = len(batch)
    many = 0 < nesting < lead
    frame = batch_frame(site)
    if frame is None:
        if single:
            return value.flatten(0, 1) if many else value
        return value if many else value.unsqueeze(0)
    axis, first = lead + frame.dim, int(many)
    if axis != first:
        value = value.movedim(axis, first)
    plates = {lead + f.dim for f in site["cond_indep_stack"] if f.vectorized}
    # Behind the rows the dimensions left of the batch's stand first: one further right than before.
    places = {d + 1 if first <= d < axis else d for d in plates if d != axis}
    gone = [d for d in range(first + 1, lead) if d not in places and value.shape[d] == 1]
    if gone:
        value = value.squeeze(tuple(gone))
    return value.flatten(0, 1) if many else value
