"""Draws of a guide's bits with antithetic twins, for the gradients that compare the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import Bernoulli
from torch import Tensor

from priory.distributions.pixels import IndependentBernoulli
from priory.inference.phases.sites import Site, base


class Antithetic:
    r"""Draws K particles of a guide, and for each of its sites of bits K more, twins from there on.

    A twin has the values of its particle above the site, those of the antithetic uniform at the
    site, and draws of its own below, so that it is one more draw of the guide.

    .. math:: b = 1[u < \sigma(l)], \qquad \tilde b = 1[1 - u < \sigma(l)]

    Args:
        order: The guide's latents, in the order in which they are drawn.
        bits: Those whose twins are drawn.
        draws: K.
    """

    def __init__(self, order: Sequence[str], bits: Sequence[str], draws: int) -> None:
        self.order = {name: place for place, name in enumerate(order)}
        self.bits, self.draws = tuple(bits), draws

    @property
    def groups(self) -> int:
        """How many draws of K particles there are: the first, and the twins of each site."""
        return 1 + len(self.bits)

    def __call__(self, site: Site) -> Tensor:
        """Return a site's values, (groups * K, *plates, *event), all groups' in their order."""
        values: Tensor = site["fn"]()
        first, *others = values.unflatten(0, (self.groups, self.draws))
        here, groups = self.order[site["name"]], [first]
        for name, own in zip(self.bits, others, strict=True):
            place = self.order[name]
            if place == here:
                groups[0], own = antithetic(logits_of(site)[: self.draws])
            groups.append(groups[0] if place > here else own)
        return torch.cat(groups)


def antithetic(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return bits of given log-odds, and their antithetic twins, in the shape of the log-odds."""
    with torch.no_grad():
        u, p = torch.rand_like(logits), logits.sigmoid()
        return (u < p).to(p), (1 - u < p).to(p)


def logits_of(site: Site) -> Tensor:
    """Return the log-odds of a site of bits, (*plates, *event).

    Raises:
        ValueError: The site is of no Bernoulli distribution.
    """
    distribution, inner = site["fn"], base(site["fn"])
    if not isinstance(inner, Bernoulli | IndependentBernoulli):
        raise ValueError(
            f"the gradient 'disarm' is of bits, and the guide's {site['name']!r} is "
            f"{type(inner).__name__}; take gradient='vimco' or 'score'"
        )
    return inner.logits.expand(distribution.batch_shape + distribution.event_shape)
