"""Whether dreams are copies of training rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.evaluation.samples.pairwise import Neighbours, nearest, row_blocks

_SHARE = 0.01
_COMPONENTS = 64  # dimensions that rows are compared in, at most
_BASIS_ROWS = 5000  # rows that the components are found from, at most


class Copying(NamedTuple):
    """Whether dreams keep to training rows more than to fresh data.

    Args:
        preference: of a training row over a fresh one, as the row nearest to a dream: 1/2 without
            copying, 1 where every dream is nearest to a training row.
        preference_se: its standard error.
        z: dreams that have a training row nearest, less their number if the rows' kinds were
            shuffled, over the latter's standard deviation; high for copies.
        copied: share of dreams nearer to a training row than the nearest 1% of fresh data.
        copied_se: its standard error.
    """

    preference: float
    preference_se: float
    z: float
    copied: float
    copied_se: float


def nearest_training(dreams: Tensor, train: Tensor, k: int = 1) -> Neighbours:
    """Answer the training rows nearest to each dream, to be looked at beside it.

    Args:
        dreams: `(n, d)`.
        train: `(m, d)`.
        k: neighbours of each dream.

    Raises:
        ValueError: if there are fewer than k training rows, or the widths of the rows differ.

    Example:
        >>> train = torch.tensor([[0.0], [1.0], [5.0]])
        >>> nearest_training(torch.tensor([[4.0]]), train).row
        tensor([[2]])
    """
    return nearest(dreams, train, k)


def copying(dreams: Tensor, train: Tensor, fresh: Tensor) -> Copying:
    r"""Ask whether dreams are nearer to training rows than to fresh data of the same law.

    With c_r the number of dreams that have row r nearest, of all N training and M fresh rows,

    .. math:: \frac{a}{a + b}, \quad a = \frac{1}{N} \sum_{r \in \text{train}} c_r, \quad
        b = \frac{1}{M} \sum_{r \in \text{fresh}} c_r

    For a model that does not copy, the two kinds of rows could be exchanged: the mean and variance
    of the sums are those of drawing M of the N + M counts without replacement. Dreams that are
    merely blurred, or gather at the mean, are near to both kinds alike.

    The three sets are those of Meehan, Chaudhuri and Dasgupta 2020, A Three Sample Hypothesis Test
    for Evaluating Generative Models, whose statistic compares distances and takes blur for copies.

    Args:
        dreams: `(n, d)`.
        train: `(N, d)`.
        fresh: data that were not trained on, `(M, d)`.

    Raises:
        ValueError: if a set has fewer than 2 rows, or the widths of the rows differ.
    """
    if min(len(dreams), len(train), len(fresh)) < 2:
        raise ValueError(
            f"needs at least 2 dreams, training rows and fresh data, got {len(dreams)}, "
            f"{len(train)} and {len(fresh)}"
        )
    own, other = nearest(dreams, train), nearest(dreams, fresh)
    known = own.distance[:, 0] <= other.distance[:, 0]
    row = torch.where(known, own.row[:, 0], len(train) + other.row[:, 0])
    n, big, small = len(dreams), len(train), len(fresh)
    counts = row.bincount(minlength=big + small).double()
    strays = float(counts[big:].sum())
    spread = math.sqrt(small * big / (big + small) * float(counts.var()))
    a, b = (n - strays) / big, strays / small
    slope = (b / big + a / small) / (a + b) ** 2
    z = (n * small / (big + small) - strays) / spread if spread else 0.0
    limit = nearest(fresh, train).distance[:, 0].quantile(_SHARE)
    copied = float((own.distance[:, 0] < limit).double().mean())
    error = math.sqrt(copied * (1 - copied) / n + _SHARE * (1 - _SHARE) / small)
    return Copying(a / (a + b), slope * spread, z, copied, error)


def shared_components(*sets: Tensor) -> list[Tensor]:
    """Answer sets in the leading principal components of all their rows together.

    Rows of different sets are treated alike, so that what is exchangeable stays so; up to 64
    dimensions they are as they were.

    Args:
        sets: each `(n, d)`.

    Raises:
        ValueError: if the widths of the rows differ.
    """
    if sets[0].shape[1] <= _COMPONENTS:
        return [part.double() for part in sets]
    step = max(1, sum(len(part) for part in sets) // _BASIS_ROWS)
    few = torch.cat([part[::step].double() for part in sets])
    few = few - few.mean(0)
    _, basis = torch.linalg.eigh(few.T @ few)
    basis = basis[:, -_COMPONENTS:]
    return [
        torch.cat([rows.double() @ basis for _, rows in row_blocks(part, part.shape[1])])
        for part in sets
    ]
