"""Kernels as functions of the squared distance, and the width that the samples suggest."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from priory.divergences.pairwise import squared_distances

IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
RBF_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
_ROWS = 512  # of both sets together, from which the median is taken

Width = float | Tensor
Kernel = Callable[[Tensor, Width, int], Tensor]


def rbf(squares: Tensor, square_width: Width, d: int) -> Tensor:  # noqa: ARG001
    r"""Return the Gaussian kernel, :math:`e^{-r^2 / 2 s^2}`.

    Args:
        squares: squared distances r^2.
        square_width: s^2.
        d: dimensions of the samples; no matter here.
    """
    return torch.exp(-squares / (2 * square_width))


def rbf_mixture(squares: Tensor, square_width: Width, d: int) -> Tensor:
    r"""Return the mean of Gaussian kernels of widths c s, c from 1/4 to 4.

    No single width need be right: the narrow ones see detail, the wide ones samples that are far.

    Li, Swersky and Zemel, 2015, Generative moment matching networks.

    Args:
        squares: squared distances r^2.
        square_width: s^2.
        d: dimensions of the samples.
    """
    parts = (rbf(squares, c * c * square_width, d) for c in RBF_SCALES)
    return functools.reduce(torch.add, parts) / len(RBF_SCALES)


def imq(squares: Tensor, square_width: Width, d: int) -> Tensor:
    r"""Return the sum of inverse multiquadrics, :math:`C / (C + r^2)`, C = 2 d c s^2.

    c runs from 0.1 to 10. Tolstikhin, Bousquet, Gelly and Schoelkopf, 2018, Wasserstein
    auto-encoders.

    Args:
        squares: squared distances r^2.
        square_width: s^2.
        d: dimensions of the samples.
    """
    scale = 2 * d * square_width
    parts = (c * scale / (c * scale + squares) for c in IMQ_SCALES)
    return functools.reduce(torch.add, parts)


def minus_distance(squares: Tensor, square_width: Width = 1.0, d: int = 0) -> Tensor:  # noqa: ARG001
    """Return -r / s, whose gradient is 0 where two samples coincide.

    Its discrepancy is the energy distance: Sejdinovic, Sriperumbudur, Gretton and Fukumizu, 2013,
    Equivalence of distance-based and RKHS-based statistics in hypothesis testing.

    Args:
        squares: squared distances r^2.
        square_width: s^2.
        d: dimensions of the samples; no matter here.
    """
    apart = squares > 0
    distances = torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)
    return distances / -(square_width**0.5)


KERNELS: dict[str, Kernel] = {
    "energy": minus_distance,
    "imq": imq,
    "rbf": rbf,
    "rbf-mixture": rbf_mixture,
}
MEDIAN = frozenset({"rbf", "rbf-mixture"})
"""The kernels whose width is the median distance unless one is given."""


def median_square(a: Tensor, b: Tensor) -> Tensor:
    """Return the median squared distance between all samples of both sets, shape ().

    Of more than 512 samples no more are looked at, evenly spaced. It carries no gradient, and is
    positive whatever the samples.

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
    """
    both = torch.cat([a.detach(), b.detach()])
    both = both[:: -(-len(both) // _ROWS)]
    return squared_distances(both, both).median().clamp(min=torch.finfo(a.dtype).tiny)
