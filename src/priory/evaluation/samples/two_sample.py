"""Whether a classifier can separate samples from data."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import thin
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples.features import extractor_of, feature_sets, features_quantity
from priory.evaluation.samples.pairwise import check_sets, row_blocks

_DOUBT = 3.0  # standard errors
_TIE = 1e-12


class TwoSample(NamedTuple):
    """A classifier's accuracy on samples that it was not fitted to.

    Args:
        accuracy: 1/2 where it cannot separate the sets, both counted alike.
        se: standard error of the accuracy.
        chance: standard deviation of the accuracy of fair coins.
        p: probability of so high an accuracy, were the sets of one distribution.
        first: accuracy on the first set.
        second: accuracy on the second set.
        n: samples of both sets.
    """

    accuracy: float
    se: float
    chance: float
    p: float
    first: float
    second: float
    n: int


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def c2st(draws: Sets) -> Estimate:
    """Accuracy of a logistic regression that tells samples from data, 1/2 where it cannot."""
    real, generated, _ = feature_sets(draws)
    found = logistic_test(generated, real)
    return _two_sample(draws, found, "data", finds_copies=False)


@metric("samples", "generated", anchored=True, quantity=features_quantity)
def c2st_1nn(draws: Sets) -> Estimate:
    """Accuracy of the nearest other sample in telling samples from data, 1/2 where it cannot."""
    real, generated, _ = feature_sets(draws)
    found = nearest_neighbour_test(generated, real)
    return _two_sample(draws, found, "data")


@metric("samples", "generated", "train", quantity=features_quantity)
def c2st_1nn_train(draws: Sets) -> Estimate:
    """Accuracy of the nearest other sample in telling samples from training rows; 0 for copies."""
    check_finite("samples", draws.generated)
    extract, train = extractor_of(draws), draws.compared(draws.train["x"])
    n = min(len(train), len(draws.generated))
    rows = (thin({"x": x}, n)["x"] for x in (draws.generated, train.to(draws.generated)))
    generated, known = (extract(x) for x in rows)
    found = nearest_neighbour_test(generated, known)
    return _two_sample(draws, found, "training rows")


def logistic_test(a: Tensor, b: Tensor) -> TwoSample:
    """Separate two sets by logistic regression, fitted to even rows and judged on odd rows.

    Features are brought to one scale by the rows that are fitted.

    Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.

    Raises:
        Unavailable: if a set has fewer than 4 rows, the widths of the rows differ, or a feature is
            NaN or infinite.

    Example:
        >>> a = torch.arange(8.0).unsqueeze(1)
        >>> logistic_test(a, a + 20).accuracy
        1.0
    """
    from sklearn.linear_model import LogisticRegression

    a, b = check_sets(a, b, least=4)
    seen, label = _pooled(a[::2], b[::2])
    kept, _ = _pooled(a[1::2], b[1::2])
    mean, sd = seen.mean(0), seen.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    judge = LogisticRegression(max_iter=1000, class_weight="balanced")
    try:
        found = judge.fit((seen - mean) / sd, label).predict((kept - mean) / sd)
    except ValueError as error:  # a feature that is NaN or infinite
        raise Unavailable(str(error)) from error
    first, second = torch.as_tensor(found).split([len(a) // 2, len(b) // 2])
    return _judged((first == 0).double(), (second == 1).double())


def nearest_neighbour_test(a: Tensor, b: Tensor) -> TwoSample:
    """Separate two sets by the nearest other sample, each left out in turn.

    Far below 1/2, each sample of one set sits beside one of the other: one of them was copied. A
    tie between the nearest samples counts by their shares. The sets should be of one size. Two
    samples that are each other's neighbours are separated or not together: the errors allow for
    their share.

    Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests; Xu et al. 2018, An empirical
    study on evaluation metrics of generative adversarial networks.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.

    Raises:
        Unavailable: if a set has fewer than 2 rows, or the widths of the rows differ.
    """
    a, b = check_sets(a, b, least=2)
    centre = b.mean(0)
    x = torch.cat([a, b]) - centre
    first = torch.arange(len(x), device=x.device) < len(a)
    slack = _TIE * float(x.square().sum(1).max())
    hits, near = [], []
    for start, rows in row_blocks(x, len(x)):
        squares = squared_distances(rows, x)
        squares.diagonal(offset=start).fill_(torch.inf)
        near.append(squares.argmin(1))
        tied = (squares <= squares.amin(1, keepdim=True) + slack).double()
        share = tied @ first.double() / tied.sum(1)
        hits.append(torch.where(first[start : start + len(rows)], share, 1 - share))
    hit, neighbour = torch.cat(hits).cpu(), torch.cat(near).cpu()
    mutual = (neighbour[neighbour] == torch.arange(len(x))).double().mean()
    return _judged(hit[: len(a)], hit[len(a) :], 1 + float(mutual))


def _two_sample(draws: Sets, found: TwoSample, what: str, finds_copies: bool = True) -> Estimate:
    note = (
        f"{found.first:.3f} on samples, {found.second:.3f} on {what}; p = {found.p:.2g}; "
        f"{extractor_of(draws).text}"
    )
    warned: tuple[Doubt, ...] = ()
    # A line cannot find copies: below 1/2 by its standard, all is chance.
    if finds_copies and found.accuracy < 0.5 - _DOUBT * found.chance:
        text = f"far below 1/2: samples sit upon {what}, as copies do"
        warned = (Doubt(text, Remedy.COPIES),)
    return Estimate(found.accuracy, found.se, found.n, "unbiased", note=note, warnings=warned)


def _pooled(a: Tensor, b: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return torch.cat([a, b]).cpu().numpy(), np.repeat([0, 1], [len(a), len(b)])


def _judged(first: Tensor, second: Tensor, dependence: float = 1.0) -> TwoSample:
    """Return the mean of both accuracies; its null variance is that of coins, times dependence."""
    n, m = len(first), len(second)
    one, two = float(first.mean()), float(second.mean())
    accuracy = (one + two) / 2
    spread = float(first.var(correction=0)) / n + float(second.var(correction=0)) / m
    chance = math.sqrt(dependence * (0.25 / n + 0.25 / m)) / 2
    p = 0.5 * math.erfc((accuracy - 0.5) / chance / math.sqrt(2))
    se = math.sqrt(dependence * spread) / 2
    return TwoSample(accuracy, se, chance, p, one, two, n + m)
