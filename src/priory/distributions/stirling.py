"""Pieces of log densities that lose no precision where factorials are large."""

import math

import torch
from torch import Tensor

_LARGE = 15.0  # from which the series has the precision of float64
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def stirling_rest(x: Tensor) -> Tensor:
    r"""Return what Stirling's formula leaves of a factorial.

    .. math:: \log \Gamma(x + 1) - (x + \tfrac12) \log x + x - \tfrac12 \log 2 \pi

    Args:
        x: Positive numbers, any shape.
    """
    large, small = x.clamp(min=_LARGE), x.clamp(max=_LARGE)
    inverse = 1 / large
    square, far = inverse.square(), torch.zeros_like(inverse)
    for coefficient in reversed(_SERIES):
        far = far * square + coefficient
    near = torch.lgamma(small + 1) - (small + 0.5) * small.log() + small - HALF_LOG_TWO_PI
    return torch.where(x > _LARGE, far * inverse, near)


def excess(u: Tensor) -> Tensor:
    """Return e^u - 1 - u, which is not negative, to full precision near 0."""
    square = u.square()
    near = square * (1 / 2 + u * (1 / 6 + u * (1 / 24 + u * (1 / 120 + u / 720))))
    small = u.abs() < 1e-2
    return torch.where(small, near, torch.expm1(torch.where(small, 0.0, u)) - u)
