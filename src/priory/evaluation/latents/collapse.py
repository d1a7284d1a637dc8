"""Posterior collapse: which latent dimensions the guide leaves at the prior, and which vary."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from priory.distributions.independent import IndependentNormal
from priory.distributions.strata import StratifiedMixture
from priory.evaluation.latents.layers import COLLAPSED, is_layered, layered_units
from priory.evaluation.record import Estimate, Kind, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.sample_sets import Sets, once
from priory.priors.mixture import NormalMixture

_THRESHOLD = 0.01


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
    if isinstance(distribution, StratifiedMixture):
        return dist.MixtureSameFamily(
            dist.Categorical(logits=distribution.logits.unsqueeze(-2)),
            dist.Normal(distribution.loc.mT, distribution.log_scale.exp().mT),
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


def collapse_doubts(kl: Tensor, threshold: float = COLLAPSED) -> tuple[Doubt, ...]:
    """Warn where half of the latent dimensions or more are left at the prior.

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
        return (Doubt(f"posterior collapse: {which} {below}: z is ignored", Remedy.LATENTS),)
    if 2 * dead >= count:
        text = f"{dead} of {count} dimensions collapsed: they have {below}"
        return (Doubt(text, Remedy.LATENTS),)
    return ()


def active_units(means: Tensor, threshold: float = _THRESHOLD) -> tuple[int, Tensor]:
    r"""Count the latent dimensions that vary with the data, Var_x(E_q[z | x]) > threshold.

    Burda, Grosse and Salakhutdinov 2016.

    Args:
        means: posterior means, `(n, latent)`.
        threshold: least variance of an active unit.

    Returns:
        The count and the variances, `(latent,)`.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    if len(means) < 2:
        raise ValueError(f"active units need at least 2 rows, got {len(means)}")
    variances = means.double().reshape(len(means), -1).var(0)
    return int((variances > threshold).sum()), variances


@metric("latents", "phase", name="active_units")
def active_unit_count(draws: Sets) -> Estimate:
    """Count of latent dimensions that vary with the data."""
    if is_layered(draws):
        return layered_units(draws, _THRESHOLD)
    latents = draws.latents
    if draws.n < 2:
        raise Unavailable(f"needs at least 2 rows, got {draws.n}")
    check_finite("posterior means", latents.mean)
    count, variances = active_units(latents.mean, _THRESHOLD)
    note = f"of {len(variances)}; the variance of E[z | x] exceeds {_THRESHOLD}"
    kind: Kind = "exact" if latents.exact else "biased"
    dimensions = dimension_kl(draws)
    doubts: tuple[Doubt, ...] = ()
    if dimensions is not None:
        doubts, live = collapse_doubts(dimensions), int((dimensions >= COLLAPSED).sum())
        if 2 * count < live:
            text = (
                f"{live} dimensions have KL above {COLLAPSED:g} nats: the threshold is for latents "
                "of about unit variance"
            )
            doubts += (Doubt(text, Remedy.LATENTS),)
    return Estimate(float(count), None, draws.n, kind, note=note, warnings=doubts)


@once
def dimension_kl(draws: Sets) -> Tensor | None:
    """Return the mean KL divergence of each latent dimension, where it can be had."""
    try:
        found = draws.posterior
    except Unavailable:
        return None
    if found.z.dim() != 2:
        return None
    parts = found.z.split([distribution.batch_shape[-1] for distribution in found.posteriors])
    total = torch.zeros(found.z.shape[1:], dtype=torch.float64)
    for z, posterior, prior in zip(parts, found.posteriors, found.priors, strict=True):
        values = coordinate_kl(z, posterior, prior)
        if values is None:
            return None
        total += values.sum(0).cpu()
    return total / len(found.z)
