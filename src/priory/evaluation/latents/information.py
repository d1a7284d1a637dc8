"""What a pair's latents hold of the data: the divergence from the prior, and its two parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.distributions.independent import IndependentNormal
from priory.evaluation.isolation import seeded
from priory.evaluation.latents.collapse import collapse_doubts, dimension_kl
from priory.evaluation.latents.layers import COLLAPSED, is_layered, layered_kl
from priory.evaluation.likelihood.quantity import likelihood_of
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt
from priory.evaluation.sample_sets import Sets
from priory.inference.phases.phases import Phases
from priory.priors.mixture import NormalMixture

_BYTES = 32 * 2**20
_MEAN_DRAWS = 64
_ROWS = 1000  # rows at a time
_LABELS, _DECODED = 45, 46  # random streams


class Split(NamedTuple):
    """The mean KL divergence to the prior and its two parts, per datum, `(n,)`, in nats.

    Args:
        kl: log q(z | x) - log p(z).
        mutual_information: log q(z | x) - log q(z).
        mismatch: log q(z) - log p(z).
    """

    kl: Tensor
    mutual_information: Tensor
    mismatch: Tensor


def aggregate_log_density(z: Tensor, posteriors: Sequence[Any], block: int | None = None) -> Tensor:
    r"""Log density of the aggregated posterior q(z) = 1/N sum_j q(z | x_j), by blocks.

    Args:
        z: `(n, *event)`.
        posteriors: distributions of batch shape `(rows,)` or `(1, rows)` and event shape `event`,
            which together hold one posterior for each of the N data.
        block: rows of z at a time; sized by itself if `None`.

    Returns:
        `(n,)`, float64.
    """
    log_q = torch.full((len(z),), -math.inf, dtype=torch.float64, device=z.device)
    count = sum(q.batch_shape[-1] for q in posteriors)
    for q in posteriors:
        normal = isinstance(q, IndependentNormal) and len(q.event_shape) == 1
        width = 1 if normal else z[:1].numel()
        size = block or max(1, _BYTES // (8 * width * q.batch_shape[-1]))
        for start in range(0, len(z), size):
            part = slice(start, start + size)
            scores = _normal_scores(z[part], q) if normal else q.log_prob(z[part].unsqueeze(1))
            log_q[part] = torch.logaddexp(log_q[part], scores.double().logsumexp(-1))
    return log_q - math.log(count)


def _normal_scores(z: Tensor, q: IndependentNormal) -> Tensor:
    """Return log q(z_i | x_j), `(z, x)`, by one matrix product in double precision."""
    count = q.batch_shape[-1]
    loc, log_scale = (full.reshape(count, -1).double() for full in (q.mean, q.full(q.log_scale)))
    mixture = NormalMixture(z.new_zeros(count), loc, log_scale)
    return mixture.components(z.double()) + math.log(count)


def mean_of(distribution: Any) -> tuple[Tensor, bool]:
    """Return a distribution's mean, and whether it is in closed form; else it averages 64 draws.

    Args:
        distribution: the distribution.
    """
    try:
        return distribution.mean, True
    except NotImplementedError:
        return distribution.sample((_MEAN_DRAWS,)).mean(0), False


def split_kl(log_q: Tensor, log_p: Tensor, log_aggregate: Tensor) -> Split:
    r"""Split the KL divergence into what latents say of the data and how far they miss the prior.

    .. math:: \mathbb{E}_x KL(q(z|x) \| p(z)) = I_q(x; z) + KL(q(z) \| p(z))

    Hoffman and Johnson 2016, ELBO surgery.

    Args:
        log_q: log q(z_i | x_i), `(n,)`, in nats.
        log_p: log p(z_i), `(n,)`.
        log_aggregate: log q(z_i) from `aggregate_log_density`, `(n,)`.
    """
    log_q, log_p, log_aggregate = log_q.double(), log_p.double(), log_aggregate.double()
    return Split(log_q - log_p, log_q - log_aggregate, log_aggregate - log_p)


@metric("latents", "phase")
def kl(draws: Sets) -> Estimate:
    """Mean KL divergence from q(z given x) to the prior."""
    if is_layered(draws):
        return layered_kl(draws)
    q = draws.posterior
    note = "one draw of z per datum"
    doubts: tuple[Doubt, ...] = ()
    dimensions = dimension_kl(draws)
    if dimensions is not None:
        dead = int((dimensions < COLLAPSED).sum())
        note += f"; {dead} of {len(dimensions)} dimensions are below {COLLAPSED:g} nats"
        doubts = collapse_doubts(dimensions)
    values = (q.log_q - q.log_p).double().cpu()
    return Estimate.mean(values, kind="unbiased", unit="nats", note=note, warnings=doubts)


@metric("latents", "posterior")
def mutual_information(draws: Sets) -> Estimate:
    """I_q(x; z), what a latent tells of its datum."""
    ceiling = math.log(draws.n)
    return Estimate.mean(
        _split(draws).mutual_information,
        kind="biased",
        unit="nats",
        note=f"biased downwards: cannot exceed ln n = {ceiling:.2f}",
    )


@metric("latents", "posterior", better="lower")
def mismatch(draws: Sets) -> Estimate:
    """KL divergence from the aggregated posterior q(z) to the prior."""
    _refuse_many_priors(draws)
    return Estimate.mean(
        _split(draws).mismatch,
        kind="biased",
        unit="nats",
        note="KL(q(z), p(z)); with the mutual information it adds up to the kl; biased upwards",
    )


@metric("latents", "density", quantity=likelihood_of)
def distortion(draws: Sets) -> Estimate:
    """Nats of a datum that the decoder pays beside the code; with the kl they make the bound."""
    if not (draws.phase.local and draws.phase.local == draws.phase.latents):
        raise Unavailable("the model has no code of each datum alone: what it pays is the bound")
    parts = []
    for rows in seeded(draws, _DECODED, _ROWS):
        phase = Phases(draws.model, draws.guide, columns=rows).awake
        rate = phase.log_q() - phase.log_p(phase.latents)
        parts.append(torch.stack([rate[0], -phase.log_p(phase.observed)[0]]).detach())
    rate, nats = torch.cat(parts, 1).double().cpu()
    note = "-E log p(x | z), of one draw of z per datum"
    if not draws.quantity.is_density:
        code, rest = (float(part.mean()) / math.log(2) for part in (rate, nats))
        note += f"; {code:.3g} bits of a datum in the code, {rest:.3g} in the decoder"
    return Estimate.mean(nats + draws.log_scale, kind="unbiased", unit="nats", note=note)


@metric("latents", "phase", "labels", better="higher")
def label_information(draws: Sets) -> Estimate:
    """I_q(y; z), what a latent tells of the label that the model draws from it."""
    if "y" not in draws.phase.observed or not draws.phase.local:
        raise Unavailable("the model draws no label y after a latent")
    awake = (
        Phases(draws.model, draws.guide, columns=rows).awake
        for rows in seeded(draws, _LABELS, _ROWS)
    )
    found = torch.cat([phase.log_p("y")[0].detach().double().cpu() for phase in awake])
    labels = draws.labels.cpu()
    _, places, counts = labels.unique(return_inverse=True, return_counts=True)
    frequencies = (counts.double() / len(labels)).log()[places]
    entropy = -float(frequencies.mean())
    return Estimate.mean(
        found - frequencies,
        kind="lower bound",
        unit="nats",
        note=f"H(y) + E log p(y | z), of one draw of z per datum; H(y) = {entropy:.3f}",
    )


def _refuse_many_priors(draws: Sets) -> None:
    """Raise Unavailable if the prior of one row's latent is not that of another's."""
    point = draws.posterior.z[:1]
    densities = torch.cat([p.log_prob(point).flatten() for p in draws.posterior.priors])
    if not torch.allclose(densities, densities[:1], rtol=1e-4, atol=1e-4):
        raise Unavailable(
            "the prior of z differs from row to row, with a column that the model reads: there is "
            "no one p(z) that all rows' q(z) could match"
        )


def _split(draws: Sets) -> Split:
    q = draws.posterior
    parts = split_kl(q.log_q, q.log_p, draws.log_aggregate)
    return Split(*(part.cpu() for part in parts))
