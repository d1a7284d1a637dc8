"""Comparing two sets of samples: pure functions, blocked, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
_BLOCK = 1024
_FEW = 10  # rows below which a standard error is itself a guess
_DISTINCT = 0.9


def flags(x: Tensor) -> tuple[str, ...]:
    """Say what makes averages over these rows less than they seem: few, repeated, constant.

    Constant features are told of data that are not binary: there a density can grow without bound.

    Args:
        x: data, `(n, *shape)`.
    """
    n, values = len(x), x.flatten(1).cpu()
    found = [f"only {n} rows"] if n < _FEW else []
    distinct = len({row.tobytes() for row in values.numpy()})
    if distinct < _DISTINCT * n:
        found.append(f"only {distinct} of {n} rows are distinct, the error is too small")
    constant = int((values == values[0]).all(0).sum())
    if constant and not ((values == 0) | (values == 1)).all():
        found.append(f"{constant} of {values.shape[1]} features are constant")
    return tuple(found)


def median_bandwidths(real: Tensor, limit: int = 1000) -> tuple[float, ...]:
    """Answer kernel widths around the median distance between data.

    They depend on the data alone, so that all models are measured by the same kernel.

    Args:
        real: data, `(n, d)`.
        limit: rows looked at, evenly spaced.

    Raises:
        ValueError: if there are fewer than two rows or all are equal.
    """
    if len(real) < 2:
        raise ValueError(f"a kernel width needs at least 2 rows, got {len(real)}")
    index = torch.linspace(0, len(real) - 1, min(limit, len(real)), dtype=torch.float64)
    distances = torch.pdist(real[index.round().long()].double())
    width = float(distances.median()) or float(distances.mean())
    if width == 0.0:
        raise ValueError(f"all {len(real)} rows of data are equal: there is no scale to compare on")
    return tuple(width * scale for scale in _SCALES)


def mmd2(a: Tensor, b: Tensor, bandwidths: tuple[float, ...]) -> tuple[float, float]:
    r"""Unbiased squared maximum mean discrepancy by a mixture of RBF kernels, and its error.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} k(a_i, a_j)
        + \frac{1}{m(m-1)} \sum_{i \ne j} k(b_i, b_j) - \frac{2}{nm} \sum_{ij} k(a_i, b_j), \quad
        k(u, v) = \frac{1}{|S|} \sum_{s \in S} e^{-|u - v|^2 / 2 s^2}

    The standard error is the two-sample jackknife's, from the kernel's row sums; where the two laws
    are equal it is too large by about the square root of 2. The estimate may be negative.

    Gretton, Borgwardt, Rasch, Schoelkopf and Smola 2012, A Kernel Two-Sample Test.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        bandwidths: the kernels' widths s, in units of the data.

    Raises:
        ValueError: if a set has fewer than 3 rows, or the widths of the rows differ.
    """
    if min(len(a), len(b)) < 3:
        raise ValueError(f"mmd needs at least 3 samples of each set, got {len(a)} and {len(b)}")
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"mmd compares sets of shapes (n, d) and (m, d), got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    centre = b.double().mean(0)  # against cancellation in the distances
    a, b = a.double() - centre, b.double() - centre
    n, m = len(a), len(b)
    aa, _ = _row_sums(a, a, bandwidths)
    bb, _ = _row_sums(b, b, bandwidths)
    ab, ba = _row_sums(a, b, bandwidths)
    aa, bb = aa - 1.0, bb - 1.0  # without the diagonal, where k = 1
    within_a, within_b, between = aa.sum(), bb.sum(), ab.sum()
    mean_a, mean_b = within_a / (n * (n - 1)), within_b / (m * (m - 1))
    value = mean_a + mean_b - 2 * between / (n * m)
    without_a = (within_a - 2 * aa) / ((n - 1) * (n - 2)) + mean_b
    without_a = without_a - 2 * (between - ab) / ((n - 1) * m)
    without_b = mean_a + (within_b - 2 * bb) / ((m - 1) * (m - 2))
    without_b = without_b - 2 * (between - ba) / (n * (m - 1))
    variance = sum(float(w.var(correction=0)) * (len(w) - 1) for w in (without_a, without_b))
    return float(value), math.sqrt(variance)


def independent_marginals(real: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw samples whose coordinates have the data's marginals but know nothing of each other.

    The deliberately bad baseline of a report: any model of structure must do better.

    Args:
        real: data, `(rows, d)`.
        n: number of samples.
        generator: source of random numbers, on the CPU.
    """
    index = torch.randint(len(real), (n, real.shape[1]), generator=generator)
    return real.gather(0, index.to(real.device))


def _row_sums(a: Tensor, b: Tensor, bandwidths: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Sum the kernel over rows and over columns, `(n,)` and `(m,)`, block by block."""
    rows, columns = a.new_zeros(len(a)), a.new_zeros(len(b))
    squares = b.square().sum(1)
    for start in range(0, len(a), _BLOCK):
        part = a[start : start + _BLOCK]
        distance = part.square().sum(1, keepdim=True) + squares - 2 * part @ b.T
        distance.clamp_(min=0)
        kernel = torch.zeros_like(distance)
        for s in bandwidths:
            kernel += torch.exp(distance / (-2 * s * s))
        kernel /= len(bandwidths)
        rows[start : start + _BLOCK] = kernel.sum(1)
        columns += kernel.sum(0)
    return rows, columns
