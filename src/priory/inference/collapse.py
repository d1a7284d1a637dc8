"""How far samples have collapsed: in variance, in modes, and before the eyes of a critic."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.data import Data

_CLUSTERS = 20
_DUE = 0.1  # share of its due from which on a mode counts as reached


class Modes(NamedTuple):
    """Places where the data are dense.

    Args:
        centres: `(modes, d)`.
        shares: of the data, `(modes,)`.
        reach: how far from its centre a mode ends, `(modes,)`.
    """

    centres: Tensor
    shares: Tensor
    reach: Tensor


def modes_of(data: Data, x: Tensor) -> Modes | None:
    """Answer the modes of the data's density where it is a known mixture, else clusters of rows.

    A mode of a mixture ends half way to the next one. Clusters are those of k-means, and a sample
    belongs to the nearest.

    Args:
        data: may know their density.
        x: training rows, `(n, d)`.

    Returns:
        None if there are too few rows to find any.
    """
    if data.density is not None:
        centres = data.density.centres.to(x)
        gaps = torch.cdist(centres, centres).fill_diagonal_(math.inf).min(1).values
        return Modes(centres, x.new_full((len(centres),), 1 / len(centres)), gaps / 2)
    count = min(_CLUSTERS, len(x) // 20)
    if count < 2:
        return None
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):  # sums in the same order at every run
        found = KMeans(count, n_init=1, max_iter=50, random_state=0).fit(x.cpu().double().numpy())
    centres = torch.as_tensor(found.cluster_centers_).to(x)
    sizes = torch.as_tensor(found.labels_, device=x.device).bincount(minlength=count)
    return Modes(centres, sizes.to(x) / len(x), x.new_full((count,), math.inf))


def reached(samples: Tensor, modes: Modes) -> int:
    """Count the modes that at least a tenth of their due of the samples lie in.

    Args:
        samples: `(n, d)`.
        modes: of the data.

    Example:
        >>> two = Modes(torch.tensor([[0.0], [4.0]]), torch.tensor([0.5, 0.5]), torch.ones(2))
        >>> reached(torch.zeros(10, 1), two)
        1
    """
    distance, nearest = torch.cdist(samples, modes.centres).min(1)
    inside = nearest[distance <= modes.reach[nearest]]
    counts = inside.bincount(minlength=len(modes.centres))
    return int((counts >= (_DUE * len(samples) * modes.shares).clamp_min(1)).sum())


def spread(samples: Tensor, rows: Tensor) -> float:
    """Answer the samples' total variance over the data's; 0 where all samples are alike.

    Args:
        samples: `(n, d)`.
        rows: of the data, `(m, d)`.
    """
    return float(samples.var(0).sum() / rows.var(0).sum())


def order(awake: Tensor, asleep: Tensor) -> float:
    """Answer the share of pairs that a critic puts in the right order: P(awake above asleep).

    The area under its ROC curve: 1 if it tells them apart without fail, 0.5 if it cannot. It does
    not depend on where a game's scores have their boundary.

    Args:
        awake: scores `(n,)`.
        asleep: scores `(m,)`.
    """
    above = (awake[:, None] > asleep).double() + 0.5 * (awake[:, None] == asleep).double()
    return float(above.mean())
