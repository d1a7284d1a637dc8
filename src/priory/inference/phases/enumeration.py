"""All values of a guide's discrete latents, in the place of draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from priory.inference.phases.sites import Site, base, in_batch, is_latent, pick

MOST = 4096
"""Combinations of values that are enumerated for a datum."""


def marked_sites(guide: Mapping[str, Site]) -> tuple[str, ...]:
    """Return the sites that a guide itself marks, as `pyro.infer.config_enumerate` does.

    Args:
        guide: its sites by name.
    """
    return tuple(n for n, s in guide.items() if is_latent(s) and s["infer"].get("enumerate"))


def listed_sites(guide: Mapping[str, Site]) -> tuple[str, ...]:
    """Return the marked sites, and those without `rsample` whose values can be listed.

    Args:
        guide: its sites by name.
    """
    marks = marked_sites(guide)
    return tuple(n for n, s in guide.items() if n in marks or (is_latent(s) and _is_listed(s)))


def combinations(guide: Mapping[str, Site], names: Iterable[str]) -> dict[str, Tensor]:
    """Return every combination of some sites' values, each `(combinations, *event)`.

    Args:
        guide: The guide's sites by name.
        names: Those that are enumerated.

    Raises:
        ValueError: A site's values cannot be listed, or there are too many combinations.
    """
    every = {name: _values(name, pick(guide, name, "guide")) for name in names}
    sizes = [len(values) for values in every.values()]
    _check(" and ".join(map(repr, every)), math.prod(sizes))
    places = torch.cartesian_prod(*(torch.arange(n) for n in sizes)).reshape(-1, len(sizes))
    return {n: v[places[:, i].to(v.device)] for i, (n, v) in enumerate(every.items())}


def _values(name: str, site: Site) -> Tensor:
    """Return all values of a site of one datum, `(values, *event)`."""
    distribution, inner = site["fn"], base(site["fn"])
    if not in_batch(site) or sum(f.vectorized for f in site["cond_indep_stack"]) > 1:
        raise ValueError(f"{name!r} is enumerated for each datum: draw it in the batch plate alone")
    if not getattr(inner, "has_enumerate_support", False):
        kind = type(inner).__name__
        raise ValueError(
            f"the values of {name!r}, a {kind}, cannot be enumerated: they are not few"
        )
    support = inner.enumerate_support(expand=False)
    support = support.reshape(len(support), *inner.event_shape)
    elements = distribution.event_shape[: distribution.event_dim - inner.event_dim]
    count = math.prod(elements)
    _check(repr(name), len(support) ** count)
    places = torch.tensor(
        list(itertools.product(range(len(support)), repeat=count)), device=support.device
    )
    return support[places].reshape(-1, *distribution.event_shape)


def _is_listed(site: Site) -> bool:
    few = getattr(base(site["fn"]), "has_enumerate_support", False)
    return bool(few) and not site["fn"].has_rsample


def _check(names: str, count: int) -> None:
    if count > MOST:
        raise ValueError(
            f"{names} have {count:,} combinations of values for each datum, more than the {MOST:,} "
            "that are enumerated; take gradient='vimco' or 'score'"
        )
