"""Posterior collapse: which latent dimensions the guide leaves at the prior."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from priory.distributions.independent import IndependentNormal
from priory.priors.mixture import NormalMixture

COLLAPSED = 0.01  # nats


def coordinates(distribution: Any) -> Any:
    """Return the marginals of a distribution's coordinates as one distribution without event dims.

    Args:
        distribution: a distribution over `(latent,)`.

    Returns:
        A distribution whose batch shape ends in `(latent,)`; `None` if the marginals are not known
        in closed form.
    """
    if isinstance(distribution, IndependentNormal):
        return dist.Normal(distribution.mean, distribution.scale)
    if isinstance(distribution, NormalMixture):
        weights = dist.Categorical(
            logits=distribution.logits.expand(distribution.loc.shape[-1], -1)
        )
        return dist.MixtureSameFamily(
            weights, dist.Normal(distribution.loc.mT, distribution.log_scale.exp().mT)
        )
    if isinstance(distribution, torch.distributions.MultivariateNormal):
        return dist.Normal(distribution.mean, distribution.variance.sqrt())
    while isinstance(distribution, (torch.distributions.Independent, dist.MaskedDistribution)):
        distribution = distribution.base_dist
    return None if distribution.event_shape else distribution


def coordinate_kl(z: Tensor, posterior: Any, prior: Any) -> Tensor | None:
    r"""Return the KL divergence of each latent dimension from the prior, by datum.

    .. math:: KL(q(z_d \mid x_i) \| p(z_d))

    In closed form where there is one, else from one draw per datum. The dimensions add up to the
    whole divergence only where guide and prior are factorised.

    Args:
        z: draws, `(n, latent)`.
        posterior: what they were drawn from, of batch shape `(n,)`.
        prior: of batch shape `(n,)` or `()`.

    Returns:
        `(n, latent)`, float64, in nats; `None` if marginals are not known in closed form.
    """
    q, p = coordinates(posterior), coordinates(prior)
    if p is None or q is None:
        return None
    try:
        values = kl_divergence(q, p)
    except NotImplementedError:
        values = q.log_prob(z) - p.log_prob(z)
    return values.double().expand(z.shape)


def collapse_words(kl: Tensor, threshold: float = COLLAPSED) -> tuple[str, ...]:
    """Say so where half of the latent dimensions or more are left at the prior.

    Bowman et al. 2016, Generating sentences from a continuous space; Lucas, Tucker, Grosse and
    Norouzi 2019, Don't blame the ELBO!

    Args:
        kl: mean KL divergence by dimension, `(latent,)`, in nats.
        threshold: below it a dimension counts as collapsed, in nats.
    """
    count, dead = len(kl), int((kl < threshold).sum())
    below = f"KL below {threshold:g} nats"
    if dead == count:
        which = "the only dimension has" if count == 1 else f"all {count} dimensions have"
        return (f"posterior collapse: {which} {below}: z is ignored",)
    if 2 * dead >= count:
        return (f"{dead} of {count} dimensions collapsed: they have {below}",)
    return ()
