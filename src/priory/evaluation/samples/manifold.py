"""Precision, recall, density and coverage: what balls around samples hold of the other set."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric, with_note
from priory.evaluation.sample_sets import Sets, once
from priory.evaluation.samples.features import feature_sets, features_quantity
from priory.evaluation.samples.manifold_errors import Errors, manifold_errors
from priory.evaluation.samples.pairwise import check_sets, nearest, row_blocks, stream

_NEIGHBOURS = 5
_ROUNDING = 1e-12
_STREAM = 33  # the random stream of divisions


class Manifold(NamedTuple):
    """What the balls of k neighbours hold, by sample; each metric is a mean.

    Args:
        precision: whether a generated sample lies in a ball of the data, `(m,)`.
        recall: whether a datum lies in a ball of the generated samples, `(n,)`.
        density: in how many of the data's balls a generated sample lies, over k, `(m,)`.
        coverage: whether a datum's ball holds a generated sample, `(n,)`.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def precision(draws: Sets) -> Estimate:
    """Share of samples that lie among the data."""
    note = "samples within the data's balls; an outlier among the data has a great ball"
    return _by_sample(draws, "precision", note)


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def recall(draws: Sets) -> Estimate:
    """Share of data that lie among the samples."""
    note = "data within the samples' balls; an outlier among the samples has a great ball"
    return _by_sample(draws, "recall", note)


@metric("samples", "generated", anchored=True, quantity=features_quantity)
def density(draws: Sets) -> Estimate:
    """Balls around data that a sample lies in, over those expected: 1 under equal distributions."""
    note = "1 under equal distributions, more where samples crowd the modes"
    return _by_sample(draws, "density", note)


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def coverage(draws: Sets) -> Estimate:
    """Share of data that have a sample nearer than their own neighbours."""
    n = len(feature_sets(draws).real)
    expected = expected_coverage(n, n, _NEIGHBOURS)
    return _by_sample(draws, "coverage", f"{expected:.4f} under equal distributions")


def manifold(real: Tensor, generated: Tensor, k: int = _NEIGHBOURS) -> Manifold:
    """Compare two sets by balls that reach from each sample to its k-th neighbour of its own set.

    Precision says whether generated samples are like data, recall whether data are like them.
    Density and coverage say the same of the data's balls alone, and so stand outliers among the
    generated samples.

    Kynkaanniemi, Karras, Laine, Lehtinen and Aila 2019, Improved Precision and Recall Metric for
    Assessing Generative Models; Naeem, Oh, Uh, Choi and Yoo 2020, Reliable Fidelity and Diversity
    Metrics for Generative Models.

    Args:
        real: features of the data, `(n, d)`.
        generated: features of the generated samples, `(m, d)`.
        k: neighbours.

    Raises:
        Unavailable: if a set has no more than k rows, or the widths of the rows differ.
    """
    real, generated = check_sets(real, generated, least=k + 1)
    centre = real.mean(0)
    real, generated = real - centre, generated - centre
    reach = nearest(real, real, k, own=True).distance[:, -1].square()
    reach_samples = nearest(generated, generated, k, own=True).distance[:, -1].square()
    held = torch.zeros_like(reach_samples)  # balls of data that hold a generated sample
    recall, coverage = [], []
    slack = _ROUNDING * float(real.square().sum(1).max() + generated.square().sum(1).max())
    for start, rows in row_blocks(real, len(generated)):
        squares = squared_distances(rows, generated) - slack
        inside = squares <= reach[start : start + len(rows)].unsqueeze(1)
        held += inside.sum(0)
        coverage.append(inside.any(1))
        recall.append((squares <= reach_samples).any(1))
    return Manifold(
        (held > 0).double(), torch.cat(recall).double(), held / k, torch.cat(coverage).double()
    )


def expected_coverage(real: int, generated: int, k: int = _NEIGHBOURS) -> float:
    r"""Return the coverage's mean where the distributions are equal.

    .. math:: 1 - \prod_{i=1}^k \frac{N - i}{M + N - i}

    Naeem, Oh, Uh, Choi and Yoo 2020.

    Args:
        real: number of data N.
        generated: number of generated samples M.
        k: neighbours.

    Raises:
        Unavailable: if there are no more than k data, or no generated samples.

    Example:
        >>> round(expected_coverage(10000, 10000, 5), 4)
        0.9688
    """
    if real <= k or generated < 1:
        raise Unavailable(f"needs more than {k} data and a sample, got {real} and {generated}")
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (real - i) / (generated + real - i)
    return 1.0 - missed


def _by_sample(draws: Sets, name: str, note: str) -> Estimate:
    found, errors = _manifold(draws), _errors(draws)
    note = f"{note}; {_NEIGHBOURS} neighbours; {feature_sets(draws).text}"
    values: Tensor = getattr(found, name)
    made = Estimate.mean if name == "density" else Estimate.share
    share = made(values, kind="biased", note=note)
    if errors is None:
        return replace(with_note(share, "too few rows for a standard error"), se=None, values=None)
    # The balls are shared: no value stands for its row alone, and a pairing by rows has no sense.
    return replace(share, se=getattr(errors, name) or share.se, values=None)


@once
def _manifold(draws: Sets) -> Manifold:
    real, generated, _ = feature_sets(draws)
    return manifold(real, generated, _NEIGHBOURS)


@once
def _errors(draws: Sets) -> Errors | None:
    real, generated, _ = feature_sets(draws)
    return manifold_errors(real, generated, stream(draws.seed, _STREAM), _NEIGHBOURS)
