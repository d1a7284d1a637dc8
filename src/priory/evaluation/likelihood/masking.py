"""A likelihood of some features alone, where features are independent given the latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Independent

from priory.distributions.independent import Factorised
from priory.evaluation.record import Unavailable
from priory.inference.phases.sites import Site, masked


def coordinate_log_prob(distribution: Any, value: Tensor) -> Tensor:
    """Return the log density of each feature by itself, `(*batch, *event)`, in nats.

    Args:
        distribution: of a whole event.
        value: events, `(*batch, *event)`.

    Raises:
        Unavailable: if the distribution is not known to have independent features.
    """
    if isinstance(distribution, Factorised):
        score: Tensor = distribution.apart().log_prob(value.unsqueeze(-1))
        return score
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Factorised) and base is not distribution:
        return coordinate_log_prob(base, value)
    if base is distribution or base.event_shape:
        raise Unavailable(
            f"p(x | z) ({type(base).__name__}) is not known to have independent features"
        )
    score = base.log_prob(value)
    return score.expand(value.shape)


def masked_log_prob(site: Site, mask: Tensor) -> Tensor:
    """Return the log density of a site's features that a mask shows, `(rows,)`, in nats.

    Args:
        site: in the plate `data` alone; rows that its own mask leaves out have 0.
        mask: boolean, of the value's shape.
    """
    score = coordinate_log_prob(site["fn"], site["value"])
    return masked(site, score.where(mask, score.new_zeros(())).flatten(1).sum(1))
