"""Discrepancies between samples and data by kernels, and whether one is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from priory.divergences.pairwise import Profile
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric, of_equal_size, units_of
from priory.evaluation.sample_sets import Sets, once
from priory.evaluation.samples.kernels import Gram, hamming, imq, minus_distance, radial, rbf
from priory.evaluation.samples.pairwise import check_sets, row_blocks, stream
from priory.likelihoods.values import is_binary

_ELEMENTS = 2**17  # of a block of kernels, to stay near the processor
_PERMUTATIONS = 200
_PERMUTED_ROWS = 1000  # of each set
_SLACK = 1e-12  # sums of the same numbers in another order are equal
_STREAM = 30  # the random stream of permutations


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy between samples and data, by RBF kernels."""
    return _discrepancy(draws, "mmd", "squared; RBF kernels around the data's median distance")


@metric("samples", "generated", anchored=True)
def mmd_p(draws: Sets) -> Estimate:
    """p-value of the mmd, were samples and data of one distribution: a permutation test."""
    real, generated = of_equal_size(draws, _PERMUTED_ROWS)
    kernel, random = radial(rbf(draws.bandwidths)), stream(draws.seed, _STREAM)
    p, se = permutation_p(generated, real, kernel, random, _PERMUTATIONS)
    note = f"{_PERMUTATIONS} permutations of {len(generated)} samples and {len(real)} data; never 0"
    return Estimate(p, se, len(real), "biased", note=note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd_imq(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy by inverse multiquadrics, whose tails see outliers."""
    note = "squared; inverse multiquadric kernels around the data's median distance"
    return _discrepancy(draws, "mmd_imq", note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd_hamming(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy of binary data, by the share of unequal features."""
    for what, x in (("data", draws.real), ("samples", draws.generated)):
        if not is_binary(x):
            raise Unavailable(f"the {what} are not binary")
    return _discrepancy(draws, "mmd_hamming", "squared; kernel exp(-share of unequal features)")


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def energy(draws: Sets) -> Estimate:
    """Energy distance between samples and data."""
    return _discrepancy(draws, "energy", "2 E|x - y| - E|x - x'| - E|y - y'|")


def mmd2(a: Tensor, b: Tensor, bandwidths: tuple[float, ...]) -> tuple[float, float]:
    r"""Unbiased squared maximum mean discrepancy by a mixture of RBF kernels, and its error.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} k(a_i, a_j)
        + \frac{1}{m(m-1)} \sum_{i \ne j} k(b_i, b_j) - \frac{2}{nm} \sum_{ij} k(a_i, b_j), \quad
        k(u, v) = \frac{1}{|S|} \sum_{s \in S} e^{-|u - v|^2 / 2 s^2}

    The standard error is the two-sample jackknife's; see `discrepancies`.

    Gretton, Borgwardt, Rasch, Schoelkopf and Smola 2012, A Kernel Two-Sample Test.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        bandwidths: the kernels' widths s, in units of the data.

    Raises:
        Unavailable: if a set has fewer than 3 rows, or the widths of the rows differ.
    """
    return discrepancies(a, b, radial(rbf(bandwidths)))[0]


def discrepancies(a: Tensor, b: Tensor, gram: Gram) -> list[tuple[float, float]]:
    """Return the unbiased squared discrepancy and its error for several kernels at once.

    The standard error is the two-sample jackknife's, from the kernel's row sums; where the two
    distributions are equal it is too large by about the square root of 2. The estimate may be
    negative. Only row sums are kept, never a matrix of all pairs.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        gram: the kernels.

    Raises:
        Unavailable: if a set has fewer than 3 rows, or the widths of the rows differ.
    """
    a, b = check_sets(a, b, least=3)
    n, m = len(a), len(b)
    aa, bb = own_sums(a, gram), own_sums(b, gram)
    ab, ba = cross_sums(a, b, gram)
    within_a, within_b, between = (sums.sum(1, keepdim=True) for sums in (aa, bb, ab))
    mean_a, mean_b = within_a / (n * (n - 1)), within_b / (m * (m - 1))
    value = mean_a + mean_b - 2 * between / (n * m)
    without_a = (within_a - 2 * aa) / ((n - 1) * (n - 2)) + mean_b
    without_a = without_a - 2 * (between - ab) / ((n - 1) * m)
    without_b = mean_a + (within_b - 2 * bb) / ((m - 1) * (m - 2))
    without_b = without_b - 2 * (between - ba) / (n * (m - 1))
    variance = sum(w.var(1, correction=0) * (w.shape[1] - 1) for w in (without_a, without_b))
    return [
        (float(v), math.sqrt(float(e)))
        for v, e in zip(value[:, 0], torch.as_tensor(variance), strict=True)
    ]


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
        Unavailable: if a set has fewer than 2 rows, or the widths differ.
        ValueError: if B is not positive.
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


def own_sums(a: Tensor, gram: Gram) -> Tensor:
    """Sum symmetric kernels over the other rows of a set, block by block, `(kernels, n)`.

    Args:
        a: samples, `(n, d)`.
        gram: the kernels.
    """
    sums: Tensor | None = None
    for start, kernel in own_blocks(a, gram):
        if sums is None:
            sums = kernel.new_zeros(len(kernel), len(a))
        height = kernel.shape[1]
        sums[:, start : start + height] += kernel.sum(2)
        sums[:, start + height :] += kernel[:, :, height:].sum(1)
    return a.new_zeros(1, 0) if sums is None else sums


def own_blocks(a: Tensor, gram: Gram) -> Iterator[tuple[int, Tensor]]:
    """Return the upper triangle of the kernels of a set with itself, in blocks of rows.

    Args:
        a: samples, `(n, d)`.
        gram: the kernels.

    Yields:
        The first row, and the kernels of a block of rows with itself and all later rows,
        `(kernels, rows, later)`, 0 where a row meets itself.
    """
    for start, rows in row_blocks(a, len(a), _ELEMENTS):
        kernel = gram(rows, a[start:])
        kernel.diagonal(dim1=1, dim2=2).zero_()
        yield start, kernel


def cross_sums(a: Tensor, b: Tensor, gram: Gram) -> tuple[Tensor, Tensor]:
    """Sum kernels over rows and over columns, `(kernels, n)` and `(kernels, m)`, by blocks.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        gram: the kernels.
    """
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    for _, part in row_blocks(a, len(b), _ELEMENTS):
        kernel = gram(part, b)
        rows.append(kernel.sum(2))
        columns = [kernel.sum(1) + sum(columns)]
    return torch.cat(rows, 1), columns[0]


def _discrepancy(draws: Sets, name: str, note: str) -> Estimate:
    """Return one of the discrepancies that share their distances."""
    value, se = _by_kernel(draws)[name]
    note = f"{note}; {len(draws.generated)} samples against {len(draws.real)} data"
    return Estimate(value, se, len(draws.real), "unbiased", note=note)


@once
def _by_kernel(draws: Sets) -> dict[str, tuple[float, float]]:
    """Return all discrepancies, whose distances are the costly part."""
    check_finite("samples", draws.generated)
    widths = draws.bandwidths
    kernels: dict[str, Profile] = {
        "mmd": rbf(widths),
        "mmd_imq": imq(widths[len(widths) // 2]),
        "energy": minus_distance,
    }
    if is_binary(draws.real) and is_binary(draws.generated):
        kernels["mmd_hamming"] = hamming(draws.real.shape[1])
    found = discrepancies(draws.generated, draws.real, radial(*kernels.values()))
    return dict(zip(kernels, found, strict=True))


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
