"""What a pair's latents hold: pure functions of posterior draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.distributions.independent import IndependentNormal
from priory.priors.mixture import NormalMixture

_BYTES = 32 * 2**20
_MEAN_DRAWS = 64


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


def active_units(means: Tensor, threshold: float = 0.01) -> tuple[int, Tensor]:
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
