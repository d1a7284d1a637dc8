"""Comparing two sets of samples: pure functions, blocked, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from priory.divergences import IMQ_SCALES, squared_distances
from priory.divergences.pairwise import Profile
from priory.evaluation.samples.pairwise import check_sets, row_blocks

Gram = Callable[[Tensor, Tensor], Tensor]  # (n, d), (m, d) -> (kernels, n, m)

_ELEMENTS = 2**17  # of a block of kernels, to stay near the processor


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


def radial(*profiles: Profile) -> Gram:
    """Return kernels of the distance, made together because the distances are the costly part.

    Args:
        profiles: each a function of squared distances, such as `rbf(bandwidths)`.
    """

    def gram(a: Tensor, b: Tensor) -> Tensor:
        squares = squared_distances(a, b)
        return torch.stack([profile(squares) for profile in profiles])

    return gram


def rbf(bandwidths: Sequence[float]) -> Profile:
    r"""Return the mean of RBF kernels, :math:`e^{-|u - v|^2 / 2 s^2}`.

    Args:
        bandwidths: the widths s, in units of the data.
    """

    def profile(squares: Tensor) -> Tensor:
        kernel = torch.zeros_like(squares)
        for s in bandwidths:
            kernel += (squares / (-2 * s * s)).exp_()
        return kernel / len(bandwidths)

    return profile


def imq(scale: float) -> Profile:
    r"""Return the mean of inverse multiquadrics, :math:`c s^2 / (c s^2 + |u - v|^2)`, c in 0.1..10.

    Their tails are heavy: they still see a sample that an RBF kernel finds infinitely far.

    Tolstikhin, Bousquet, Gelly and Schoelkopf 2018, Wasserstein Auto-Encoders.

    Args:
        scale: the width s, in units of the data.
    """

    def profile(squares: Tensor) -> Tensor:
        kernel = torch.zeros_like(squares)
        for c in IMQ_SCALES:
            kernel += 1 / (1 + squares / (c * scale**2))
        return kernel / len(IMQ_SCALES)

    return profile


def hamming(d: int) -> Profile:
    r"""Return the kernel of binary data :math:`e^{-H(u, v) / d}`, H the number of unequal features.

    Between zeros and ones H is the squared distance.

    Yang, Liu, Rao and Neville 2018, Goodness-of-Fit Testing for Discrete Distributions via Stein
    Discrepancy.

    Args:
        d: number of features.
    """
    return lambda squares: torch.exp(squares / -d)


def minus_distance(squares: Tensor) -> Tensor:
    r"""Return :math:`-|u - v|`, by which the discrepancy is the energy distance.

    Sejdinovic, Sriperumbudur, Gretton and Fukumizu 2013, Equivalence of distance-based and
    RKHS-based statistics in hypothesis testing.

    Args:
        squares: squared distances.
    """
    return -squares.sqrt()


def cubic(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the kernel :math:`(u \cdot v / d + 1)^3`, `(1, n, m)`.

    Binkowski, Sutherland, Arbel and Gretton 2018, Demystifying MMD GANs.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
    """
    return ((a @ b.mT) / a.shape[1] + 1).pow(3).unsqueeze(0)
