"""Whether a discrepancy between two sets is more than chance: the permutation test."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.samples.kernels import Gram, own_blocks
from priory.evaluation.samples.pairwise import check_sets

_SLACK = 1e-12  # sums of the same numbers in another order are equal


def permutation_p(
    a: Tensor, b: Tensor, gram: Gram, generator: torch.Generator, permutations: int = 200
) -> tuple[float, float]:
    r"""Return the p-value of the unbiased squared discrepancy, and its Monte Carlo error.

    .. math:: p = \frac{1 + \#\{b : T_b \ge T\}}{1 + B}

    Under equal distributions p is at most t with probability at most t, for any number of rows.
    With indicators V of the rows that count as the first set, all T_b come from the sums V'KV and
    K1 over blocks of the pooled kernel matrix, which is never held.

    Gretton, Borgwardt, Rasch, Schoelkopf and Smola 2012, A Kernel Two-Sample Test; Phipson and
    Smyth 2010, Permutation P-values Should Never Be Zero.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        gram: one kernel.
        generator: of the permutations, on the CPU.
        permutations: their number B.

    Raises:
        ValueError: if a set has fewer than 2 rows, the widths differ, or B is not positive.
    """
    a, b = check_sets(a, b, least=2)
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    n, total = len(a), len(a) + len(b)
    order = torch.rand(permutations, total, generator=generator, dtype=torch.float64).argsort(1)
    member = torch.zeros(1 + permutations, total, dtype=torch.float64)
    member[0, :n] = 1.0
    member[1:].scatter_(1, order[:, :n], 1.0)
    statistics = _statistics(torch.cat([a, b]), member.T.to(a), gram)
    slack = _SLACK * float(statistics.abs().max())
    beyond = int((statistics[1:] >= statistics[0] - slack).sum())
    p = (1 + beyond) / (1 + permutations)
    return p, math.sqrt(p * (1 - p) / (1 + permutations))


def _statistics(x: Tensor, member: Tensor, gram: Gram) -> Tensor:
    """Return the discrepancy of each division of the rows, from indicators `(rows, divisions)`."""
    within = member.new_zeros(member.shape[1])
    sums = member.new_zeros(len(x))
    for start, kernels in own_blocks(x, gram):
        kernel = kernels[0]
        stop = start + len(kernel)
        square, later = kernel[:, : len(kernel)], kernel[:, len(kernel) :]
        first = member[start:stop]
        within += (first * (square @ first + 2 * later @ member[stop:])).sum(0)
        sums[start:stop] += kernel.sum(1)
        sums[stop:] += later.sum(0)
    n = member.sum(0)
    m = len(x) - n
    touching = sums @ member  # pairs with a first row in the first set
    between = touching - within
    rest = sums.sum() - touching - between
    return within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * between / (n * m)
