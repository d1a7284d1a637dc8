"""Whether a pair's clusters are the classes: three protocols of accuracy, two of agreement."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.latents.probes import check_labels
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import Need, check_finite, metric
from priory.evaluation.rows import blocks
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import pseudo_values
from priory.inference.phases.phases import Phases
from priory.priors.mixture import NormalMixture

_STARTS = 10
_STREAM = 40
_ROWS = 500  # rows at a time
_MOST = 10  # components per class that still count as clusters
_NEEDS: tuple[Need, ...] = ("labels", "phase")


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
        Unavailable: if there are fewer distinct rows than clusters.
    """
    points = z.detach().reshape(len(z), -1).double().cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    if distinct < clusters:
        raise Unavailable(f"{clusters} clusters need as many distinct latents, got {distinct}")
    centre = points.mean(0)  # against cancellation in the distances
    from sklearn.cluster import KMeans

    fitted = KMeans(clusters, n_init=_STARTS, random_state=seed).fit(points - centre)
    found = fitted.labels_
    distance = np.linalg.norm(points - centre - fitted.cluster_centers_[found], axis=1)
    return torch.from_numpy(found).long(), torch.from_numpy(-distance)


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy in nats; the slope at empty cells is without meaning."""
    return -torch.special.xlogy(p, p.clamp_min(1e-300)).sum()


class Clusters(NamedTuple):
    """The rows' clusters, and what they are.

    Args:
        clusters: `(n,)`.
        confidence: of each row in its cluster, `(n,)`.
        labels: `(n,)`.
        note: where the clusters come from.
    """

    clusters: Tensor
    confidence: Tensor
    labels: Tensor
    note: str


@metric("latents", *_NEEDS, better="higher")
def clustering_hungarian(draws: Draws) -> Estimate:
    """Accuracy of clusters, each matched to one class at most."""
    found = _clusters(draws)
    hits = hungarian_hits(found.clusters, found.labels)
    note = f"{found.note}; the matching is the best one"
    return Estimate.share(hits, kind="biased", note=note)


@metric("latents", *_NEEDS, better="higher")
def clustering_majority(draws: Draws) -> Estimate:
    """Accuracy of clusters, each given its commonest label: purity."""
    found = _clusters(draws)
    hits = majority_hits(found.clusters, found.labels)
    note = f"{found.note}; grows with the clusters' number"
    return Estimate.share(hits, kind="biased", note=note)


@metric("latents", *_NEEDS, better="higher")
def clustering_confident(draws: Draws) -> Estimate:
    """Accuracy of clusters, each given the label of its most confident row."""
    found = _clusters(draws)
    hits = confident_hits(found.clusters, found.labels, found.confidence)
    note = f"{found.note}; one row names each cluster"
    return Estimate.share(hits, kind="unbiased", note=note)


@metric("latents", *_NEEDS, better="higher")
def nmi(draws: Draws) -> Estimate:
    """Normalised mutual information of clusters and classes."""
    found = _clusters(draws)
    values = nmi_values(found.clusters, found.labels)
    note = f"{found.note}; by the mean of the two entropies"
    return Estimate.mean(values, kind="biased", note=note)


@metric("latents", *_NEEDS, better="higher")
def ari(draws: Draws) -> Estimate:
    """Agreement of clusters and classes by the adjusted Rand index: 0 by chance."""
    found = _clusters(draws)
    values = ari_values(found.clusters, found.labels)
    return Estimate.mean(values, kind="unbiased", note=found.note)


@once
def _clusters(draws: Draws) -> Clusters:
    check_labels(draws.labels)
    labels = draws.labels.long().cpu()
    classes = len(labels.unique())
    if classes < 2:
        raise Unavailable(f"all {len(labels)} rows have the label {int(labels[0])}")
    if len(labels) <= classes:
        raise Unavailable(f"needs more rows than the {classes} classes, got {len(labels)}")
    scores, origin = _responsibilities(draws, _MOST * classes)
    if scores is not None:
        confidence, clusters = scores.max(1)
        return Clusters(clusters, confidence, labels, origin)
    means = draws.latents.mean
    check_finite("posterior means", means)
    clusters, confidence = kmeans(means, classes, draws.seed)
    note = f"{classes} clusters of posterior means by k-means: {origin}"
    return Clusters(clusters, confidence, labels, note)


def _responsibilities(draws: Draws, most: int) -> tuple[Tensor | None, str]:
    """Return the probability of each of the pair's own clusters, `(n, clusters)`, if it has any."""
    sites = [s for s in draws.phase.latents if choices(draws.phase.distribution(s)) is not None]
    if sites:
        site = sites[0]

        def probabilities(rows: Any, start: int) -> Tensor:
            reseed(next(iter(rows.values())).device, draws.seed, _STREAM, start)
            distribution = Phases(draws.model, draws.guide, columns=rows).awake.distribution(site)
            found = choices(distribution)
            if found is None or found.dim() != 2:
                raise Unavailable(f"q({site} | x) is not one distribution for each row")
            return found

        origin = f"clusters by q({site} | x)"
    else:
        site = draws.latent_site
        count = components_of(draws.phase.distribution(site, of="model"))
        if count is None or count < 2:
            return None, "the prior is no mixture"
        if count > most:
            return None, f"the prior's {count} components are too many for clusters"
        origin = f"clusters by the prior's {count} components at the posterior mean"
        return component_probabilities(draws), origin
    like = placement(draws.model, draws.guide)
    parts = [probabilities(rows, at).cpu() for at, rows in blocks(draws.columns, _ROWS, like)]
    return torch.cat(parts).double(), origin


@once
def component_probabilities(draws: Any) -> Tensor:
    """Return p(component | z) of a mixture prior at the posterior means, `(n, components)`.

    Args:
        draws: of a pair whose latent has a mixture as its prior.
    """
    z = draws.latents.mean.reshape(draws.latents.z.shape)
    return memberships_at(draws, draws.latent_site, z).double()


def memberships_at(draws: Any, site: str, z: Tensor) -> Tensor:
    """Return p(component | z) of the mixture that is a site's prior, `(n, components)`.

    Args:
        draws: of the pair.
        site: the latent's name.
        z: a value for each row, `(n, *event)`.
    """
    parts = []
    for start, rows in blocks(draws.columns, _ROWS, placement(draws.model, draws.guide)):
        first = next(iter(rows.values()))
        given = z[start : start + len(first)].to(first.device)
        phase = Phases(draws.model, draws.guide, columns=rows, latents={site: given}).awake
        parts.append(memberships(phase.distribution(site, of="model"), given).cpu())
    return torch.cat(parts)


def _base(distribution: Any) -> Any:
    """Return what is under masks and `to_event`; a mixture's event stays whole."""
    while isinstance(distribution, (torch.distributions.Independent, dist.MaskedDistribution)):
        distribution = distribution.base_dist
    return distribution


def choices(distribution: Any) -> Tensor | None:
    """Return a categorical distribution's probabilities."""
    distribution = _base(distribution)
    kinds = (torch.distributions.Categorical, torch.distributions.OneHotCategorical)
    relaxed = torch.distributions.RelaxedOneHotCategorical
    if isinstance(distribution, relaxed):
        found: Tensor = distribution.logits.softmax(-1)
        return found
    return distribution.probs if isinstance(distribution, kinds) else None


def components_of(distribution: Any) -> int | None:
    """Return a mixture's number of components, None of what is no mixture.

    Args:
        distribution: the distribution.
    """
    distribution = _base(distribution)
    if isinstance(distribution, NormalMixture):
        return distribution.logits.shape[-1]
    if isinstance(distribution, torch.distributions.MixtureSameFamily):
        return int(distribution.mixture_distribution.logits.shape[-1])
    return None


def memberships(distribution: Any, z: Tensor) -> Tensor:
    """Return p(component | z) of a mixture, `(n, components)`.

    Args:
        distribution: the mixture, of batch shape `(n,)`.
        z: `(n, *event)`.
    """
    distribution = _base(distribution)
    if isinstance(distribution, NormalMixture):
        return distribution.components(z).softmax(-1)
    parts = distribution.component_distribution
    scores = parts.log_prob(z.unsqueeze(-1 - len(parts.event_shape)))
    found: Tensor = (distribution.mixture_distribution.logits + scores).softmax(-1)
    return found
