"""What a pair's latents hold: pure functions of posterior draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

_BYTES = 32 * 2**20


class Split(NamedTuple):
    """The mean KL divergence to the prior and its two parts, per datum, `(n,)`, in nats.

    Args:
        kl: log q(z given x) - log p(z).
        mutual_information: log q(z given x) - log q(z).
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
        size = block or max(1, _BYTES // (8 * z[:1].numel() * q.batch_shape[-1]))
        for start in range(0, len(z), size):
            part = slice(start, start + size)
            scores = q.log_prob(z[part].unsqueeze(1)).double()
            log_q[part] = torch.logaddexp(log_q[part], scores.logsumexp(-1))
    return log_q - math.log(count)


def split_kl(log_q: Tensor, log_p: Tensor, log_aggregate: Tensor) -> Split:
    r"""Split the KL divergence into what latents tell of data and how far they miss the prior.

    .. math:: \mathbb{E}_x KL(q(z|x) \| p(z)) = I_q(x; z) + KL(q(z) \| p(z))

    Hoffman and Johnson 2016, ELBO surgery.

    Args:
        log_q: log q(z_i given x_i), `(n,)`, in nats.
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
    variances = means.double().flatten(1).var(0)
    return int((variances > threshold).sum()), variances


def _check_labels(labels: Tensor) -> None:
    if labels.dim() != 1:
        raise ValueError(f"labels must have shape (rows,), got {tuple(labels.shape)}")
    wrong = ((labels != labels.floor()) | (labels < 0)).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"labels must be whole numbers from 0, got {float(labels[row]):g} in row {row}"
        )


def knn_hits(
    z: Tensor,
    labels: Tensor,
    train: tuple[Tensor, Tensor] | None = None,
    neighbours: int = 5,
) -> Tensor:
    """Say for each row whether its nearest neighbours' commonest label is its own.

    Neighbours are Euclidean, from the training rows, or from all the other rows (leave one out).
    Ties between labels go to the smaller label.

    Args:
        z: latents, `(n, latent)`.
        labels: `(n,)`.
        train: latents and labels of the training rows; leave-one-out if `None`.
        neighbours: number of neighbours that vote.

    Returns:
        1 where the vote is right, else 0, `(n,)`.

    Raises:
        ValueError: if there are too few rows or only one label, if labels are no whole numbers from
            0 or have rows of their own nowhere in the pool, or if all latents are equal.
    """
    pool, pool_labels = train if train is not None else (z, labels)
    if len(pool) <= neighbours:
        raise ValueError(
            f"{neighbours} neighbours need more than {neighbours} rows, got {len(pool)}"
        )
    for found in (labels, pool_labels):
        _check_labels(found)
    labels, pool_labels = labels.long(), pool_labels.long()
    if (pool == pool[:1]).all():
        raise ValueError(f"all {len(pool)} latents are equal: no neighbour is nearer than another")
    classes, voted = np.unique(pool_labels.cpu().numpy(), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"all {len(pool)} rows have the label {classes[0]}: nothing to tell apart")
    others = pool_labels.bincount(minlength=int(labels.max()) + 1)[labels]
    alone = (others <= (train is None)).nonzero().flatten()  # a row is no neighbour of its own
    if len(alone):
        row = int(alone[0])
        raise ValueError(
            f"no other row has the label {int(labels[row])} of row {row}, so that no vote can be "
            "right; leave such rows out"
        )
    index = NearestNeighbors(n_neighbors=neighbours).fit(pool.flatten(1).cpu().numpy())
    query = z.flatten(1).cpu().numpy() if train is not None else None
    near = voted[index.kneighbors(query, return_distance=False)]
    votes = (near[:, :, None] == np.arange(len(classes))).sum(1)
    return torch.from_numpy(classes[votes.argmax(1)] == labels.cpu().numpy()).double()
