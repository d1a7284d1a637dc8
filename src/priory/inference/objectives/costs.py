"""Costs of taking one datum for another: what stands in for a likelihood."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from priory.registry import registry

Cost = Callable[[Tensor, Tensor], Tensor]

_SMALLEST = 4  # pixels of a side below which an image is not halved again


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of squared differences of each row, (n,), for rows (n, *event)."""
    return _rowwise((a - b).square())


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of absolute differences of each row, (n,), for rows (n, *event)."""
    return _rowwise((a - b).abs())


def laplacian(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the weighted distance of two images' Laplacian pyramids, (n,).

    .. math:: \sum_j 2^{2j} |L^j(a) - L^j(b)|_1

    Ling and Okada, 2006, Diffusion distance for histogram comparison, as in Bojanowski et al.,
    2018, Optimizing the latent space of generative networks. L^j is what a Gaussian blur and a
    halving of level j lose (Burt and Adelson, 1983, The Laplacian pyramid as a compact image code),
    j = 0 the finest; the last level is what is left. A level has 2^{2j} times fewer pixels than the
    image, so that all levels' mean differences count alike, and a constant difference costs what it
    does under `absolute`; a stroke's shift costs the more the farther it is.

    Args:
        a: Images, (n, channels, height, width).
        b: Images of the same shape.

    Raises:
        ValueError: They are no images.
    """
    if a.dim() != 4 or a.shape != b.shape:
        raise ValueError(
            "a Laplacian pyramid compares images (n, channels, height, width), got "
            f"{tuple(a.shape)} and {tuple(b.shape)}; take cost='absolute'"
        )
    rest = a - b
    total = torch.zeros_like(rest[:, 0, 0, 0])
    while min(rest.shape[-2:]) >= 2 * _SMALLEST:
        rows, columns = (_closeness(size, rest) for size in rest.shape[-2:])
        smaller = rows.softmax(1) @ rest @ columns.softmax(1).mT
        back = rows.softmax(0).mT @ smaller @ columns.softmax(0)
        total = total + (rest - back).abs().flatten(1).mean(1)
        rest = smaller
    return prod(a.shape[1:]) * (total + rest.abs().flatten(1).mean(1))


def _rowwise(x: Tensor) -> Tensor:
    """Return each row's sum, (n,), for rows (n, *event); numbers are their own."""
    return x.flatten(1).sum(1) if x.dim() > 1 else x


def _closeness(size: int, like: Tensor) -> Tensor:
    """Return log-weights between every second pixel and every pixel, (half, size).

    Normalised over the pixels they blur and halve, over every second pixel they double.
    """
    fine = torch.arange(size, dtype=like.dtype, device=like.device)
    return -0.5 * (fine - fine[::2].unsqueeze(1)).square()


COSTS: dict[str, Cost] = registry(Cost, (absolute, laplacian, squared))
