"""Clusters against labels: three protocols of accuracy, and two measures of agreement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.latents.influence import pseudo_values

_STARTS = 10


def contingency(
    clusters: Tensor, labels: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the rows of each cluster and class, those without rows left out.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.
        weights: of the rows, `(n,)`; 1 if `None`.

    Returns:
        The table `(clusters, classes)`, float64, and each row's place in it, `(n,)` twice.

    Raises:
        ValueError: if there are no rows, or the lengths differ.
    """
    if len(clusters) != len(labels) or not len(labels):
        raise ValueError(
            "clusters and labels must be as many, and not none; got "
            f"{len(clusters)} and {len(labels)}"
        )
    _, row = clusters.cpu().unique(return_inverse=True)
    _, column = labels.cpu().unique(return_inverse=True)
    width = int(column.max()) + 1
    one = torch.ones(len(row), dtype=torch.float64) if weights is None else weights
    table = one.new_zeros((int(row.max()) + 1) * width).index_add(0, row * width + column, one)
    return table.view(-1, width), row, column


def hungarian_hits(clusters: Tensor, labels: Tensor) -> Tensor:
    """Return for each row whether its cluster is matched to its label, one cluster to a label.

    The matching is the one with the most hits. Where there are more clusters than labels, the rows
    of those left over are misses.

    Kuhn 1955, The Hungarian method for the assignment problem.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.

    Returns:
        1 for a hit, else 0, `(n,)`.
    """
    table, row, column = contingency(clusters, labels)
    chosen = torch.full((len(table),), -1)
    from scipy.optimize import linear_sum_assignment

    of, to = linear_sum_assignment(table.numpy(), maximize=True)
    chosen[torch.from_numpy(of)] = torch.from_numpy(to)
    return (chosen[row] == column).double()


def majority_hits(clusters: Tensor, labels: Tensor) -> Tensor:
    """Return for each row whether its label is its cluster's commonest; ties to the smaller label.

    The mean is the purity; it grows with the number of clusters, to 1 for one cluster per datum.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.

    Returns:
        1 for a hit, else 0, `(n,)`.
    """
    table, row, column = contingency(clusters, labels)
    return (table.argmax(1)[row] == column).double()


def confident_hits(clusters: Tensor, labels: Tensor, confidence: Tensor) -> Tensor:
    """Return for each row whether its label is that of its cluster's most confident member.

    Among equally confident members their commonest label counts, then the smaller label.

    Dilokthanakul et al. 2016, Deep unsupervised clustering with Gaussian mixture variational
    autoencoders.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.
        confidence: of each row in its cluster, `(n,)`.

    Returns:
        1 for a hit, else 0, `(n,)`.
    """
    table, row, column = contingency(clusters, labels)
    confidence = confidence.double().cpu()
    most = torch.full((len(table),), -torch.inf, dtype=torch.float64)
    most = most.scatter_reduce(0, row, confidence, "amax")
    surest = (confidence == most[row]).double()
    votes = torch.zeros_like(table).index_put((row, column), surest, accumulate=True)
    return (votes.argmax(1)[row] == column).double()


def nmi_values(clusters: Tensor, labels: Tensor) -> Tensor:
    r"""Linearise the normalised mutual information: one value per row, whose mean it is.

    .. math:: \mathrm{NMI} = 2 \, I(c; y) / (H(c) + H(y))

    Between 0 and 1, and 1 where both have one part alone. It does not allow for chance: many small
    clusters of random rows score above 0. See `pseudo_values`.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.
    """

    def statistic(weights: Tensor) -> Tensor:
        table = contingency(clusters, labels, weights)[0]
        p = table / table.sum()
        rows, columns, joint = (_entropy(q) for q in (p.sum(1), p.sum(0), p))
        if max(p.shape) == 1:
            return torch.ones((), dtype=torch.float64)
        return 2 * (rows + columns - joint) / (rows + columns)

    return pseudo_values(statistic, len(labels))


def ari_values(clusters: Tensor, labels: Tensor) -> Tensor:
    r"""Linearise the adjusted Rand index: one value per row, whose mean it is.

    .. math:: \mathrm{ARI} = \frac{A - BC/N}{(B + C)/2 - BC/N}, \quad
        A = \sum_{ij} \tbinom{n_{ij}}{2}, \; B = \sum_i \tbinom{n_{i.}}{2}, \;
        C = \sum_j \tbinom{n_{.j}}{2}, \; N = \tbinom{n}{2}

    0 on average for random clusters, 1 for equal partitions. See `pseudo_values`.

    Hubert and Arabie 1985, Comparing partitions.

    Args:
        clusters: integers, `(n,)`.
        labels: integers, `(n,)`.
    """
    n = len(labels)

    def statistic(weights: Tensor) -> Tensor:
        table = contingency(clusters, labels, weights)[0]
        table = table * (n / table.sum())
        both, rows, columns, total = (
            (t * (t - 1)).sum() / 2 for t in (table, table.sum(1), table.sum(0), table.sum())
        )
        chance = rows * columns / total.clamp_min(1.0)
        room = (rows + columns) / 2 - chance
        if float(room.detach()) <= 1e-12 * n * n:  # both of one part, or both of single rows
            return torch.ones((), dtype=torch.float64)
        return (both - chance) / room

    return pseudo_values(statistic, n)


def kmeans(z: Tensor, clusters: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Divide latents into clusters by k-means, the best of ten starts.

    Lloyd 1982, Least squares quantization in PCM.

    Args:
        z: latents, `(n, latent)`.
        clusters: how many.
        seed: of the starts.

    Returns:
        Clusters and confidences, both `(n,)`; the latter minus the distance to the centre.

    Raises:
        ValueError: if there are fewer distinct rows than clusters.
    """
    points = z.detach().reshape(len(z), -1).double().cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    if distinct < clusters:
        raise ValueError(f"{clusters} clusters need as many distinct latents, got {distinct}")
    centre = points.mean(0)  # against cancellation in the distances
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, n_init=_STARTS, random_state=seed).fit(points - centre)
    found = fitted.labels_
    distance = np.linalg.norm(points - centre - fitted.cluster_centers_[found], axis=1)
    return torch.from_numpy(found).long(), torch.from_numpy(-distance)


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy in nats; the slope at empty cells is without meaning."""
    return -torch.special.xlogy(p, p.clamp_min(1e-300)).sum()
