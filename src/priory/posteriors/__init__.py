"""Families q(z | .) of a latent, all exchangeable, one file each."""

from typing import Any

from torch.distributions import constraints

from priory.posteriors.base import Posterior as Posterior
from priory.posteriors.bernoulli import BernoulliPosterior as BernoulliPosterior
from priory.posteriors.concrete import ConcretePosterior as ConcretePosterior
from priory.posteriors.delta import DeltaPosterior as DeltaPosterior
from priory.posteriors.kumaraswamy import KumaraswamyPosterior as KumaraswamyPosterior
from priory.posteriors.normal import NormalPosterior as NormalPosterior
from priory.registry import registry

POSTERIORS: dict[str, type[Posterior]] = registry(Posterior, globals())


def posterior_for(support: Any, deterministic: bool = False) -> Posterior:
    """Return the posterior family that fits a prior's support.

    Args:
        support: A torch constraint on each coordinate of the latent, or on the whole event.
        deterministic: Whether it is to be a point, whatever the support.

    Raises:
        ValueError: No family covers the support.

    Example:
        >>> type(posterior_for(constraints.real)).__name__
        'NormalPosterior'
    """
    if deterministic:
        return DeltaPosterior()
    base = support
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    for posterior in POSTERIORS.values():
        if posterior.covers(base):
            return posterior()
    raise ValueError(
        f"no posterior for support {support}; the supported are real, unit_interval, boolean, "
        "log_odds"
    )


__all__ = ["POSTERIORS", "Posterior", "posterior_for"]
__all__ += [part.__name__ for part in POSTERIORS.values()]
