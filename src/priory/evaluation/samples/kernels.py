"""Kernels of two sets of samples, and those of their distances made together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from priory.divergences import IMQ_SCALES, squared_distances
from priory.divergences.pairwise import Profile

Gram = Callable[[Tensor, Tensor], Tensor]  # (n, d), (m, d) -> (kernels, n, m)


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
