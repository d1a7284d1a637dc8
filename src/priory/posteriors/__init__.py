"""Families q(z | .) of a latent, all exchangeable, one file each."""

from typing import Any

from priory.distributions.independent import of_one_number
from priory.lookup import lookup
from priory.posteriors.base import Posterior as Posterior
from priory.posteriors.bernoulli import BernoulliPosterior as BernoulliPosterior
from priory.posteriors.concrete import ConcretePosterior as ConcretePosterior
from priory.posteriors.delta import DeltaPosterior as DeltaPosterior
from priory.posteriors.flow import CouplingPosterior as CouplingPosterior
from priory.posteriors.flow import IAFPosterior as IAFPosterior
from priory.posteriors.full import FullPosterior as FullPosterior
from priory.posteriors.gamma import GammaPosterior as GammaPosterior
from priory.posteriors.kumaraswamy import KumaraswamyPosterior as KumaraswamyPosterior
from priory.posteriors.logit_normal import LogitNormalPosterior as LogitNormalPosterior
from priory.posteriors.mixture import MixturePosterior as MixturePosterior
from priory.posteriors.normal import NormalPosterior as NormalPosterior
from priory.registry import registry

POSTERIORS: dict[str, type[Posterior]] = registry(Posterior, globals())


def posterior_for(
    support: Any, deterministic: bool = False, posterior: Posterior | str = "auto"
) -> Posterior:
    """Return the posterior family of a latent, which fits its prior's support.

    Args:
        support: A torch constraint on each coordinate of the latent, or on the whole event.
        deterministic: Whether it is to be a point, whatever the support.
        posterior: The family, or its name in `POSTERIORS`; "auto" takes the one of the support.

    Raises:
        ValueError: No family covers the support, or the one that is asked for does not.

    Example:
        >>> from torch.distributions import constraints
        >>> type(posterior_for(constraints.real)).__name__
        'NormalPosterior'
    """
    base = of_one_number(support)
    fitting = [kind for kind in POSTERIORS.values() if kind.covers(base)]
    if posterior != "auto":
        return _asked_for(posterior, base, fitting, deterministic)
    if deterministic:
        return DeltaPosterior()
    for kind in fitting:
        if kind.automatic:
            return kind()
    raise ValueError(
        f"no posterior for support {support}; the supported are real, unit_interval, boolean, "
        "log_odds"
    )


def _asked_for(
    posterior: Posterior | str, support: Any, fitting: list[type[Posterior]], deterministic: bool
) -> Posterior:
    """Return the family that is asked for, if it covers the support."""
    found = lookup("posterior", posterior, POSTERIORS)
    if deterministic:
        raise ValueError(
            f"a deterministic encoder's latent is a point, and the posterior {found.name!r} is "
            "asked for: leave posterior='auto', or deterministic=False"
        )
    if not found.covers(support):
        names = ", ".join(kind.name for kind in fitting) or "none"
        point = "; a point is deterministic=True" if isinstance(found, DeltaPosterior) else ""
        raise ValueError(
            f"the posterior {found.name!r} does not cover the prior's support, "
            f"{str(support) or type(support).__name__}; those that do are {names}{point}"
        )
    return found


__all__ = ["POSTERIORS", "Posterior", "posterior_for"]
__all__ += [part.__name__ for part in POSTERIORS.values()]
