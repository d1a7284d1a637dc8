"""Draws of bits and codes that hand a gradient on, as if they were their own means."""

from __future__ import annotations

from pyro.distributions import Bernoulli
from torch import Tensor

from priory.distributions.categorical import OneHot
from priory.distributions.pixels import IndependentBernoulli
from priory.inference.phases.sites import Site, base


def passed_through(site: Site) -> Tensor:
    """Return a site's draw, (*plates, *event), with the gradient of its mean.

    Args:
        site: Drawn by a guide.

    Raises:
        ValueError: The site is of no bits, and no one-hot code whose density has a slope.
    """
    distribution, inner = site["fn"], base(site["fn"])
    if not isinstance(inner, Bernoulli | IndependentBernoulli | OneHot):
        raise ValueError(
            "the gradient 'straight-through' is of bits and one-hot codes "
            f"(priory.distributions.categorical.OneHot), and the guide's {site['name']!r} is "
            f"{type(inner).__name__}; take gradient='vimco' or 'score'"
        )
    mean = inner.probs.expand(distribution.batch_shape + distribution.event_shape)
    value: Tensor = site["value"] + (mean - mean.detach())
    return value
