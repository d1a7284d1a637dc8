"""Whether dreams are copies of training rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.evaluation.samples.pairwise import Neighbours, nearest

_SHARE = 0.01


class Copying(NamedTuple):
    """How near dreams lie to training rows, beside fresh data.

    Args:
        rank: probability that a dream is nearer to its nearest training row than a fresh datum is
            to its own: 1/2 without copying, 1 where all are copied, below 1/2 where dreams are far.
        rank_se: its standard error.
        z: the rank statistic of Mann and Whitney over its sd under equal laws; high for copies.
        copied: share of dreams nearer to a training row than the nearest 1% of fresh data.
        copied_se: its standard error.
    """

    rank: float
    rank_se: float
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


def copying(to_dreams: Tensor, to_fresh: Tensor) -> Copying:
    r"""Compare the distances of dreams to the training rows with those of fresh data.

    .. math:: P(d(\text{dream}) < d(\text{fresh})) + \tfrac12 P(d(\text{dream}) = d(\text{fresh}))

    Meehan, Chaudhuri and Dasgupta 2020, A Three Sample Hypothesis Test for Evaluating Generative
    Models, over the whole space at once. A model that copies some regions and misses others may
    come out even: `copied` then still tells.

    Args:
        to_dreams: each dream's distance to its nearest training row, `(n,)`.
        to_fresh: the same of data that were not trained on, `(m,)`.

    Raises:
        ValueError: if either has fewer than 2 distances.
    """
    if min(len(to_dreams), len(to_fresh)) < 2:
        raise ValueError(
            f"needs at least 2 dreams and 2 fresh data, got {len(to_dreams)} and {len(to_fresh)}"
        )
    dreams, fresh = to_dreams.double().cpu(), to_fresh.double().cpu()
    n, m = len(dreams), len(fresh)
    above = 1 - _placement(dreams, fresh.sort().values)  # fresh data farther than each dream
    below = _placement(fresh, dreams.sort().values)  # dreams nearer than each fresh datum
    rank = float(above.mean())
    se = math.sqrt(float(above.var()) / n + float(below.var()) / m)
    limit = fresh.quantile(_SHARE)
    copied = float((dreams < limit).double().mean())
    spread = copied * (1 - copied) / n + _SHARE * (1 - _SHARE) / m
    z = (rank - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))
    return Copying(rank, se, z, copied, math.sqrt(spread))


def _placement(x: Tensor, ascending: Tensor) -> Tensor:
    """Answer the share of the sorted values below each x, ties by half."""
    low = torch.searchsorted(ascending, x)
    high = torch.searchsorted(ascending, x, right=True)
    return (low + high).double() / (2 * len(ascending))
