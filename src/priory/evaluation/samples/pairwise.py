"""What all comparisons of two sets of samples share: checks, streams, widths, neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.divergences import RBF_SCALES, squared_distances
from priory.evaluation.record import Unavailable

_ELEMENTS = 2**22  # of a block of distances: 32 MiB


class Neighbours(NamedTuple):
    """The nearest rows of one set to each row of another.

    Args:
        distance: to the nearest k, ascending, `(n, k)`, in units of the data.
        row: their numbers, `(n, k)`.
    """

    distance: Tensor
    row: Tensor


def check_sets(a: Tensor, b: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Return two sets in float64, or say what is wrong with them.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        least: rows that each set must have.

    Raises:
        Unavailable: if a set is no matrix, the widths of the rows differ, or rows are too few.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise Unavailable(
            f"expected sets of shapes (n, d) and (m, d), got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if min(len(a), len(b)) < least:
        raise Unavailable(
            f"needs at least {least} samples of each set, got {len(a)} and {len(b)}; draw more"
        )
    return a.double(), b.double()


def stream(*key: int) -> torch.Generator:
    """Return the random numbers, on the CPU, that a tuple of integers names.

    Args:
        key: not negative, such as the seed and the kind of draw.
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def median_bandwidths(real: Tensor, limit: int = 1000) -> tuple[float, ...]:
    """Return kernel widths around the median distance between data.

    They depend on the data alone, so that all models are measured by the same kernel.

    Args:
        real: data, `(n, d)`.
        limit: rows looked at, evenly spaced.

    Raises:
        Unavailable: if there are fewer than two rows or all are equal.
    """
    if len(real) < 2:
        raise Unavailable(f"a kernel width needs at least 2 rows, got {len(real)}")
    index = torch.linspace(0, len(real) - 1, min(limit, len(real)), dtype=torch.float64)
    distances = torch.pdist(real[index.round().long()].double())
    width = float(distances.median()) or float(distances.mean())
    if width == 0.0:
        raise Unavailable(
            f"all {len(real)} rows of data are equal: there is no scale to compare on"
        )
    return tuple(width * scale for scale in RBF_SCALES)


def nearest(a: Tensor, b: Tensor, k: int = 1, *, own: bool = False) -> Neighbours:
    """Return the k rows of b nearest to each row of a, block by block.

    Args:
        a: samples, `(n, d)`.
        b: samples to search, `(m, d)`.
        k: number of neighbours.
        own: whether a and b are the same rows, so that none is its own neighbour.

    Raises:
        ValueError: if b has too few rows.
    """
    a, b = check_sets(a, b)
    if not 1 <= k <= len(b) - own:
        raise ValueError(f"k must be from 1 to {len(b) - own} for {len(b)} rows, got {k}")
    centre = b.mean(0)  # against cancellation in the distances
    a, b = a - centre, b - centre
    index = []
    for start, rows in row_blocks(a, len(b)):
        squares = squared_distances(rows, b)
        if own:
            squares.diagonal(offset=start).fill_(torch.inf)
        one = squares.argmin(1, keepdim=True) if k == 1 else None  # far quicker
        index.append(squares.topk(k, largest=False).indices if one is None else one)
    found = torch.cat(index)
    parts = [
        (rows.unsqueeze(1) - b[found[start : start + len(rows)]]).norm(dim=2)
        for start, rows in row_blocks(a, k * a.shape[1])
    ]
    return Neighbours(torch.cat(parts), found)


def row_blocks(a: Tensor, width: int, elements: int = _ELEMENTS) -> Iterator[tuple[int, Tensor]]:
    """Return a set in blocks of rows, each with its first row's number.

    Args:
        a: samples, `(n, d)`.
        width: numbers that a row will need.
        elements: numbers that a block may need.
    """
    size = max(1, elements // max(1, width))
    return ((start, a[start : start + size]) for start in range(0, len(a), size))
