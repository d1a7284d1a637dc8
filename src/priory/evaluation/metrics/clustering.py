"""Whether a pair's clusters are the classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.latents.clusters import (
    ari_values,
    confident_hits,
    hungarian_hits,
    kmeans,
    majority_hits,
    nmi_values,
)
from priory.evaluation.latents.neighbours import check_labels
from priory.evaluation.record import Estimate
from priory.evaluation.registry import Need, check_finite, metric
from priory.evaluation.rows import blocks
from priory.evaluation.sample_sets import Unavailable
from priory.inference.phases.phases import Phases
from priory.priors.mixture import NormalMixture

_STREAM = 40
_ROWS = 500  # rows at a time
_MOST = 10  # components per class that still count as clusters
_NEEDS: tuple[Need, ...] = ("labels", "phase")


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


def _clusters(draws: Draws) -> Clusters:
    return draws.once("clusters", lambda: _find(draws))


def _find(draws: Draws) -> Clusters:
    labels = draws.labels
    try:
        check_labels(labels)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    labels = labels.long().cpu()
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
    try:
        clusters, confidence = kmeans(means, classes, draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
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
        count = _components(draws.phase.distribution(site, of="model"))
        if count is None or count < 2:
            return None, "the prior is no mixture"
        if count > most:
            return None, f"the prior's {count} components are too many for clusters"
        z = draws.latents.mean.reshape(draws.latents.z.shape)

        def probabilities(rows: Any, start: int) -> Tensor:
            given = z[start : start + len(next(iter(rows.values())))]
            phase = Phases(draws.model, draws.guide, columns=rows, latents={site: given}).awake
            return _memberships(phase.distribution(site, of="model"), given)

        origin = f"clusters by the prior's {count} components at the posterior mean"
    like = placement(draws.model, draws.guide)
    parts = [probabilities(rows, at).cpu() for at, rows in blocks(draws.columns, _ROWS, like)]
    return torch.cat(parts).double(), origin


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


def _components(distribution: Any) -> int | None:
    """Return a mixture's number of components."""
    distribution = _base(distribution)
    if isinstance(distribution, NormalMixture):
        return distribution.logits.shape[-1]
    if isinstance(distribution, torch.distributions.MixtureSameFamily):
        return int(distribution.mixture_distribution.logits.shape[-1])
    return None


def _memberships(distribution: Any, z: Tensor) -> Tensor:
    """Return p(component given z), `(n, components)`."""
    distribution = _base(distribution)
    if isinstance(distribution, NormalMixture):
        return distribution.components(z).softmax(-1)
    parts = distribution.component_distribution
    scores = parts.log_prob(z.unsqueeze(-1 - len(parts.event_shape)))
    found: Tensor = (distribution.mixture_distribution.logits + scores).softmax(-1)
    return found
