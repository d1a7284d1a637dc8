"""Whether the nodes of a tree are the classes: agreement at each level, purity of the whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.latents.clustering import (
    ari_values,
    component_probabilities,
    components_of,
    contingency,
)
from priory.evaluation.latents.probes import check_labels
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import pseudo_values
from priory.inference.phases.arguments import owner
from priory.inference.tree_of_codes import GROUP
from priory.priors import NestedCRP

PATH = "path"
"""The data's column of the true node of each row at each level, `(n, levels)`."""


def purity_values(paths: Tensor, labels: Tensor) -> Tensor:
    r"""Linearise the dendrogram purity: one value per row, whose mean it is.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} \frac{|\{k \in v_{ij} : y_k = y_i\}|}{|v_{ij}|}

    over all pairs P of rows with one label, with v the rows of the smallest node that has both. 1
    where the rows of each class fill nodes of their own; by a tree of the root alone it is the sum
    of the classes' shares, weighed by their pairs. See `pseudo_values`.

    Heller and Ghahramani 2005, Bayesian hierarchical clustering.

    Args:
        paths: the node of each row at each level, the highest first, `(n, levels)`; a node has its
            number but once in its level.
        labels: integers, `(n,)`.

    Example:
        >>> paths = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]])
        >>> float(purity_values(paths, torch.tensor([0, 0, 1, 1])).mean())
        1.0
    """
    levels = [torch.zeros_like(labels), *paths.T]

    def statistic(weights: Tensor) -> Tensor:
        weights = weights * (len(labels) / weights.sum())
        total = pairs = weights.new_zeros(())
        child: Tensor | None = None
        for nodes in reversed(levels):
            table, row, _ = contingency(nodes, labels, weights)
            pairs, below = table * (table - 1) / 2, pairs
            met = pairs
            if child is not None:  # less the pairs that met further down
                parent = row.new_zeros(len(below)).index_put((child,), row)
                met = pairs - torch.zeros_like(pairs).index_add(0, parent, below)
            total = total + (met * table / table.sum(1, keepdim=True)).sum()
            child = row
        return total / pairs.sum()

    return pseudo_values(statistic, len(labels))


def group_probabilities(prior: NestedCRP, z: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return p(leaf | the latents of a group), whose rows share their path, (groups, leaves).

    Args:
        prior: a tree.
        z: latents, (n, latent).
        group: an integer for each row, (n,).

    Returns:
        The probabilities, and the number of each row's group among them, (n,).

    Raises:
        Unavailable: if the groups are no integers, one for each row.
    """
    if group.shape != z.shape[:1] or group.is_floating_point():
        raise Unavailable(
            f"the column {GROUP!r} must have an integer for each row, got {group.dtype} of shape "
            f"{tuple(group.shape)}; leave it out if the rows are in no groups"
        )
    number = group.unique(return_inverse=True)[1].to(prior.offsets.device)
    found = prior.group_components(z.to(prior.offsets), number).softmax(1)
    return found.detach().cpu(), number.cpu()


class Levels(NamedTuple):
    """The rows' nodes, level by level.

    Args:
        likeliest: the likeliest node of each row at each level below the root, `(n, depth)`.
        path: the nodes above each row's likeliest leaf, and that leaf, `(n, depth)`.
    """

    likeliest: Tensor
    path: Tensor


def tree_of(draws: Any) -> NestedCRP:
    """Return the prior of a pair, if it is a tree.

    Args:
        draws: of the pair.

    Raises:
        Unavailable: if it is none.
    """
    prior = getattr(owner(getattr(draws, "model", None)), "prior", None)
    if not isinstance(prior, NestedCRP):
        raise Unavailable("the pair's prior is no tree, as nested-crp is")
    site = draws.latent_site
    if components_of(draws.phase.distribution(site, of="model")) != len(prior.log_weights()):
        raise Unavailable(f"the tree is the prior of another latent than {site!r}")
    return prior


@once
def _levels(draws: Draws) -> Levels:
    """Return the nodes of a pair's tree at each row's posterior mean."""
    prior = tree_of(draws)
    leaves = component_probabilities(draws)
    levels = range(1, prior.depth + 1)
    likeliest = [prior.at_level(leaves, level).argmax(1) for level in levels]
    sizes = prior.branching ** torch.arange(prior.depth).flip(0)
    return Levels(torch.stack(likeliest, 1), leaves.argmax(1, keepdim=True) // sizes)


@metric("latents", "phase", better="higher")
def level_ari(draws: Draws) -> Estimate:
    """Agreement of a tree's nodes with the data's, level by level: mean adjusted Rand index."""
    if PATH not in draws.columns:
        raise Unavailable(f"the data have no tree: no column {PATH!r}, of the node at each level")
    truth, found = draws.columns[PATH].cpu(), _levels(draws).likeliest
    if truth.dim() != 2 or truth.is_floating_point() or not truth.shape[1]:
        raise Unavailable(
            f"the column {PATH!r} must have integers, (rows, levels), got {tuple(truth.shape)}"
        )
    each, parts = _agreement(truth, found)
    note = f"{parts}; each row's likeliest node at the posterior mean"
    if GROUP in draws.columns:
        prior, z = tree_of(draws), draws.latents.mean.reshape(draws.latents.z.shape)
        leaves, group = group_probabilities(prior, z, draws.columns[GROUP])
        paths = truth.new_zeros(len(leaves), truth.shape[1]).index_copy(0, group, truth)
        if bool((paths[group] != truth).any()):
            raise Unavailable(
                f"rows of one {GROUP!r} have different {PATH!r}s: leave out the column {GROUP!r}"
            )
        levels = range(1, prior.depth + 1)
        nodes = torch.stack([prior.at_level(leaves, k).argmax(1) for k in levels], 1)
        each, together = _agreement(paths, nodes)
        note = f"of {len(leaves)} groups by all their rows: {together}; of single rows: {note}"
    return Estimate.mean(each, kind="unbiased", note=note)


def _agreement(truth: Tensor, found: Tensor) -> tuple[Tensor, str]:
    """Return the values whose mean is the mean index over the levels, and the index of each."""
    levels = min(truth.shape[1], found.shape[1])
    each = [ari_values(found[:, at], truth[:, at]) for at in range(levels)]
    parts = ", ".join(f"level {at + 1} {float(v.mean()):.3f}" for at, v in enumerate(each))
    return torch.stack(each).mean(0), parts


@metric("latents", "labels", "phase", better="higher")
def dendrogram_purity(draws: Draws) -> Estimate:
    """Share of a row's class in the smallest node of the tree that has another row of the class."""
    check_labels(draws.labels)
    labels = draws.labels.long().cpu()
    if len(labels.unique()) == len(labels):
        raise Unavailable("no two rows have the same label")
    values = purity_values(_levels(draws).path, labels)
    note = "over all pairs of rows of one class; by the likeliest leaf at the posterior mean"
    return Estimate.mean(values, kind="biased", note=note)
