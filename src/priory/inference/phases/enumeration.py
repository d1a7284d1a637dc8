"""All values of a guide's discrete latents, and all components of a mixture, in turn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from priory.inference.phases.sites import Site, base, in_batch, is_latent, is_stratified, pick

MOST = 4096
"""Combinations of values that are enumerated for a datum."""


def marked_sites(guide: Mapping[str, Site]) -> tuple[str, ...]:
    """Return the sites that a guide itself marks, as `pyro.infer.config_enumerate` does.

    A site of a `StratifiedMixture` is one of them, by its components.

    Args:
        guide: its sites by name.
    """
    latents = {n: s for n, s in guide.items() if is_latent(s)}
    return tuple(n for n, s in latents.items() if s["infer"].get("enumerate") or is_stratified(s))


def listed_sites(guide: Mapping[str, Site]) -> tuple[str, ...]:
    """Return the marked sites, and those without `rsample` whose values can be listed.

    Args:
        guide: its sites by name.
    """
    marks = marked_sites(guide)
    return tuple(n for n, s in guide.items() if n in marks or (is_latent(s) and _is_listed(s)))


def combinations(guide: Mapping[str, Site], names: Iterable[str]) -> dict[str, Tensor]:
    """Return every combination of some sites' values, each `(combinations, *event)`.

    Of a mixture they are the numbers of its components, `(combinations,)`.

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
    if is_stratified(site):
        return torch.arange(site["fn"].strata)
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


class Strata:
    """Draws the particles of mixtures, each from the component that is dealt to it.

    The latents before all that is enumerated are drawn once for all combinations, so that the
    weights of these, which may depend on them, add up to one.

    Args:
        components: Of each particle, `(particles,)`, by the site's name.
        before: Names of the latents that the guide draws before all that is enumerated.
        count: Combinations, the particles of one draw.
    """

    def __init__(
        self, components: Mapping[str, Tensor], before: Collection[str], count: int
    ) -> None:
        self.components, self.before, self.count = components, before, count

    def __call__(self, site: Site) -> Tensor:
        """Return a site's values, (particles, *plates, *event)."""
        if site["name"] in self.components:
            plates = (1,) * (len(site["fn"].batch_shape) - 1)
            site["fn"] = site["fn"].within(self.components[site["name"]].reshape(-1, *plates))
        drawn: Tensor = site["fn"]()
        if site["name"] in self.before:
            return drawn[:: self.count].repeat_interleave(self.count, 0)
        return drawn


def _is_listed(site: Site) -> bool:
    few = getattr(base(site["fn"]), "has_enumerate_support", False)
    return bool(few) and not site["fn"].has_rsample


def _check(names: str, count: int) -> None:
    if count > MOST:
        raise ValueError(
            f"{names} have {count:,} combinations of values for each datum, more than the {MOST:,} "
            "that are enumerated; take gradient='vimco' or 'score'"
        )
