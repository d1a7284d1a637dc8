"""Precision, recall, density and coverage: what balls around samples hold of the other set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.samples.pairwise import check_sets, nearest, row_blocks

_ROUNDING = 1e-12


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


def manifold(real: Tensor, generated: Tensor, k: int = 5) -> Manifold:
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
        ValueError: if a set has no more than k rows, or the widths of the rows differ.
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


def expected_coverage(real: int, generated: int, k: int = 5) -> float:
    r"""Return the coverage's mean where the distributions are equal.

    .. math:: 1 - \prod_{i=1}^k \frac{N - i}{M + N - i}

    Naeem, Oh, Uh, Choi and Yoo 2020.

    Args:
        real: number of data N.
        generated: number of generated samples M.
        k: neighbours.

    Raises:
        ValueError: if there are no more than k data, or no generated samples.

    Example:
        >>> round(expected_coverage(10000, 10000, 5), 4)
        0.9688
    """
    if real <= k or generated < 1:
        raise ValueError(f"needs more than {k} data and a sample, got {real} and {generated}")
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (real - i) / (generated + real - i)
    return 1.0 - missed
