"""Whether generated samples are copies of training rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.sample_sets import Sets, once
from priory.evaluation.samples.pairwise import Neighbours, check_sets, nearest, row_blocks

_SHARE = 0.01
_DOUBT = 3.0  # standard errors
_TIE = 1e-12
_COMPONENTS = 64  # dimensions that rows are compared in, at most
_BASIS_ROWS = 5000  # rows that the components are found from, at most


class Copying(NamedTuple):
    """Whether generated samples keep to training rows more than to fresh data.

    Args:
        preference: of a training row over a fresh one, as the row nearest to a sample: 1/2 without
            copying, 1 where every sample is nearest to a training row.
        preference_se: its standard error.
        z: samples that have a training row nearest, less their number if the rows' kinds were
            shuffled, over the latter's standard deviation; high for copies.
        copied: share of samples nearer to a training row than the nearest 1% of fresh data.
        copied_se: its standard error.
        expected: the share without copying: 1%, or one row of fewer than 100.
    """

    preference: float
    preference_se: float
    z: float
    copied: float
    copied_se: float
    expected: float


@metric("samples", "generated", "train")
def memorisation(draws: Sets) -> Estimate:
    """Preference of samples for training rows over fresh data: 1/2 for none, 1 for copies."""
    found = _copying(draws)
    warned: tuple[Doubt, ...] = ()
    if found.z > _DOUBT:
        text = "samples keep to training rows rather than to fresh data: the model copies"
        warned = (Doubt(text, Remedy.COPIES),)
    return Estimate(
        found.preference,
        found.preference_se,
        len(draws.generated),
        "biased",
        note=f"the nearest row's kind, per row of the kind; z = {found.z:.1f}",
        warnings=warned,
    )


@metric("samples", "generated", "train")
def copied(draws: Sets) -> Estimate:
    """Share of samples nearer to a training row than the nearest 1% of fresh data."""
    found = _copying(draws)
    warned: tuple[Doubt, ...] = ()
    if found.z > _DOUBT and found.copied > found.expected + _DOUBT * found.copied_se:
        text = f"{found.copied:.1%} of the samples are all but training rows"
        warned = (Doubt(text, Remedy.COPIES),)
    return Estimate(
        found.copied,
        found.copied_se,
        len(draws.generated),
        "biased",
        note=f"{found.expected:.3g} without copying, more where samples are blurred",
        warnings=warned,
    )


def nearest_training(generated: Tensor, train: Tensor, k: int = 1) -> Neighbours:
    """Return the training rows nearest to each sample, to be looked at beside it.

    Args:
        generated: `(n, d)`.
        train: `(m, d)`.
        k: neighbours of each sample.

    Raises:
        ValueError: if there are fewer than k training rows, or the widths of the rows differ.

    Example:
        >>> train = torch.tensor([[0.0], [1.0], [5.0]])
        >>> nearest_training(torch.tensor([[4.0]]), train).row
        tensor([[2]])
    """
    return nearest(generated, train, k)


def copying(generated: Tensor, train: Tensor, fresh: Tensor) -> Copying:
    r"""Ask whether samples are nearer to training rows than to fresh data of their distribution.

    With c_r the number of generated samples that have row r nearest, of all N training and M fresh
    rows, rows that are equally near sharing the sample,

    .. math:: \frac{a}{a + b}, \quad a = \frac{1}{N} \sum_{r \in \text{train}} c_r, \quad
        b = \frac{1}{M} \sum_{r \in \text{fresh}} c_r

    For a model that does not copy, the two kinds of rows could be exchanged: the mean and variance
    of the sums are those of drawing M of the N + M counts without replacement. Samples that are
    merely blurred, or gather at the mean, are near to both kinds alike.

    The three sets are those of Meehan, Chaudhuri and Dasgupta 2020, A Three Sample Hypothesis Test
    for Evaluating Generative Models, whose statistic compares distances and takes blur for copies.

    Args:
        generated: `(n, d)`.
        train: `(N, d)`.
        fresh: data that were not trained on, `(M, d)`.

    Raises:
        Unavailable: if a set has fewer than 2 rows, or the widths of the rows differ.
    """
    if min(len(generated), len(train), len(fresh)) < 2:
        raise Unavailable(
            f"needs at least 2 generated samples, training rows and fresh data, got "
            f"{len(generated)}, {len(train)} and {len(fresh)}"
        )
    n, big, small = len(generated), len(train), len(fresh)
    counts = _nearest_counts(generated, torch.cat([train, fresh]))
    strays = float(counts[big:].sum())
    spread = math.sqrt(small * big / (big + small) * float(counts.var()))
    a, b = (n - strays) / big, strays / small
    slope = (b / big + a / small) / (a + b) ** 2
    z = (n * small / (big + small) - strays) / spread if spread else 0.0
    share = max(_SHARE, 1 / (small + 1))
    near, ordinary = (nearest(x, train).distance[:, 0] for x in (generated, fresh))
    copied = _nearer(near, ordinary, share)
    error = math.sqrt(copied * (1 - copied) / n + share * (1 - share) / small)
    return Copying(a / (a + b), slope * spread, z, copied, error, share)


def _nearest_counts(generated: Tensor, rows: Tensor) -> Tensor:
    """Count the samples that have each row nearest, in equal shares where rows are equally near."""
    generated, rows = check_sets(generated, rows)
    centre = rows.mean(0)
    generated, rows = generated - centre, rows - centre
    slack = _TIE * float(rows.square().sum(1).max() + generated.square().sum(1).max())
    counts = rows.new_zeros(len(rows))
    for _, part in row_blocks(generated, len(rows)):
        squares = squared_distances(part, rows)
        tied = (squares <= squares.amin(1, keepdim=True) + slack).double()
        counts += (tied / tied.sum(1, keepdim=True)).sum(0)
    return counts


def _nearer(distances: Tensor, fresh: Tensor, share: float) -> float:
    """Return the share of distances below a quantile of others, which takes its part of ties.

    Args:
        distances: `(n,)`.
        fresh: the others, `(m,)`.
        share: of the others that are below the quantile.
    """
    limit = fresh.sort().values[max(0, math.ceil(share * len(fresh)) - 1)]
    slack = _TIE**0.5 * float(limit)
    below, at = (fresh < limit - slack).double().mean(), ((fresh - limit).abs() <= slack)
    part = (share - below) / at.double().mean()
    tied = ((distances - limit).abs() <= slack).double()
    return float(((distances < limit - slack).double() + part * tied).mean())


def shared_components(*sets: Tensor) -> list[Tensor]:
    """Return sets in the leading principal components of all their rows together.

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


@once
def _copying(draws: Sets) -> Copying:
    check_finite("samples", draws.generated)
    train = draws.compared(draws.train["x"]).to(draws.generated.device)
    return copying(*shared_components(draws.generated, train, draws.real))
