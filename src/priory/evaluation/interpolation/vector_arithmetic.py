"""Vector arithmetic: codes plus the difference of two classes' centroids, and what becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.interpolation.codec import Codec
from priory.evaluation.interpolation.judge import Judge, judge_of
from priory.evaluation.interpolation.points import Points, points_of
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric, with_note
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import once

ALPHAS = tuple(i / 10 for i in range(16))  # 0 to 1.5: as far again by half as the centroids lie


class Moments(NamedTuple):
    """What Gaussian naive Bayes knows of each class.

    Args:
        classes: labels, ascending, `(classes,)`.
        mean: `(classes, d)`, float64.
        variance: of each feature, divided by the class's rows, `(classes, d)`.
        share: of the rows, `(classes,)`.
    """

    classes: Tensor
    mean: Tensor
    variance: Tensor
    share: Tensor


class Arithmetic(NamedTuple):
    r"""What a judge says of moved data, and what is left of them after the way back.

    Image i of class y goes along :math:`z_i + \alpha (c_k - c_y)` to each class k; for k = y it
    stays where it is.

    Args:
        alphas: weights of the difference, `(alphas,)`.
        source: row of the own class among `classes`, `(n,)`.
        classes: labels, `(classes,)`.
        target: probability of class k, `(n, classes, alphas)`.
        own: probability of the own class, `(n, classes, alphas)`.
        error: squared error of the reconstruction, summed over features, `(n,)`.
        round_trip: squared error after the way to class k and back, `(n, classes)`; empty if it was
            not asked for.
    """

    alphas: Tensor
    source: Tensor
    classes: Tensor
    target: Tensor
    own: Tensor
    error: Tensor
    round_trip: Tensor

    def by_pair(self, what: Tensor) -> Tensor:
        """Average over the images of each class, `(classes, classes, ...)`: from row to column.

        Args:
            what: such as `target`, `(n, classes, ...)`.
        """
        return torch.stack([what[self.source == k].mean(0) for k in range(len(self.classes))])

    def elsewhere(self, what: Tensor) -> Tensor:
        """Average over the classes that are not the own, by image, `(n, ...)`.

        Args:
            what: such as `target`, `(n, classes, ...)`.
        """
        rows, count = torch.arange(len(what)), len(self.classes)
        return (what.sum(1) - what[rows, self.source]) / (count - 1)

    def at(self, alpha: float) -> int:
        """Return the place of a weight among `alphas`.

        Raises:
            ValueError: if it is not there.
        """
        found = (self.alphas == alpha).nonzero()
        if not len(found):
            raise ValueError(f"alphas must hold {alpha}, got {self.alphas.tolist()}")
        return int(found[0])


def class_moments(x: Tensor, y: Tensor) -> Moments:
    r"""Return each class's sample mean and variance: all of Gaussian naive Bayes, and centroids.

    .. math:: \mu_k = \frac{1}{n_k} \sum_{i: y_i = k} x_i, \quad
        \sigma_k^2 = \frac{1}{n_k} \sum_{i: y_i = k} (x_i - \mu_k)^2

    Args:
        x: data or codes, `(n, *shape)`.
        y: labels, `(n,)`.

    Raises:
        ValueError: if the rows do not match.
    """
    if y.shape != (len(x),):
        raise ValueError(f"labels must have shape ({len(x)},), got {tuple(y.shape)}")
    classes = y.unique()
    flat = rows_of(x).double()
    groups = [flat[y == k] for k in classes]
    return Moments(
        classes,
        torch.stack([g.mean(0) for g in groups]),
        torch.stack([g.var(0, correction=0) for g in groups]),
        torch.tensor([len(g) / len(x) for g in groups], dtype=torch.float64),
    )


def along(
    codec: Codec,
    x: Tensor,
    vectors: Tensor,
    alphas: Sequence[float] = ALPHAS,
    *,
    z: Tensor | None = None,
) -> Tensor:
    r"""Decode data moved along vectors, :math:`\mathrm{dec}(\mathrm{enc}(x) + \alpha v)`.

    Args:
        codec: encodes and decodes.
        x: `(n, *shape)`.
        vectors: `(n, coordinates)`, or one for all, `(coordinates,)`.
        alphas: weights.
        z: points of x, where they are known, as of samples, `(n, coordinates)`.

    Returns:
        `(n, alphas, *shape)`, on the CPU.
    """
    z = codec.encode(x) if z is None else z
    weights = torch.tensor(alphas).to(z).reshape(1, -1, 1)
    way = z.unsqueeze(1) + weights * vectors.to(z).expand_as(z).unsqueeze(1)
    return codec.decode(way.flatten(0, 1)).unflatten(0, way.shape[:2]).cpu()


def pair_paths(
    codec: Codec,
    x: Tensor,
    y: Tensor,
    centroids: Moments,
    alphas: Sequence[float] = ALPHAS,
    *,
    z: Tensor | None = None,
) -> Tensor:
    """Move an image of each class towards every later class: a row for each unordered pair.

    Args:
        codec: encodes and decodes.
        x: data to choose the images from, `(n, *shape)`: the one nearest to its centroid is taken.
        y: labels, `(n,)`.
        centroids: of the codes, from `class_moments`.
        alphas: weights of the difference.
        z: points of x, where they are known, `(n, coordinates)`.

    Returns:
        `(pairs, alphas, *shape)`: (0, 1), (0, 2), ..., 45 rows for ten classes.
    """
    z = codec.encode(x) if z is None else z
    c = centroids.mean.to(z)
    nearest = []
    for k, label in enumerate(centroids.classes):
        rows = (y == label).nonzero()[:, 0]
        if not len(rows):
            raise ValueError(f"no row has the label {int(label)}; give at least one of each class")
        nearest.append(rows[(z[rows.to(z.device)] - c[k]).square().sum(1).argmin().cpu()])
    a, b = torch.triu_indices(len(c), len(c), 1)
    first = torch.stack(nearest)[a]
    return along(codec, x[first], c[b] - c[a], alphas, z=z[first.to(z.device)])


def arithmetic(
    codec: Codec,
    judge: Judge,
    x: Tensor,
    y: Tensor,
    centroids: Moments,
    alphas: Sequence[float] = ALPHAS,
    *,
    back: bool = True,
    z: Tensor | None = None,
) -> Arithmetic:
    r"""Move every image from its own class to each other one, and back.

    .. math:: x' = \mathrm{dec}(\mathrm{enc}(x) + \alpha (c_k - c_y)), \quad
        x'' = \mathrm{dec}(\mathrm{enc}(x') - (c_k - c_y)) \text{ at } \alpha = 1

    Args:
        codec: encodes and decodes.
        judge: says what class an image shows.
        x: test data, `(n, *shape)`.
        y: their labels, `(n,)`.
        centroids: of the training rows' codes, from `class_moments`.
        alphas: weights of the difference.
        back: whether to make the round trip.
        z: points of x, where they are known, `(n, coordinates)`.

    Raises:
        Unavailable: if a label is no class of the centroids, or the judge knows others.
    """
    _check_classes(judge, y, centroids)
    classes, y = centroids.classes.cpu(), y.cpu()
    source = torch.searchsorted(classes, y)
    z = codec.encode(x) if z is None else z
    vectors = centroids.mean.to(z)[None] - centroids.mean.to(z)[source.to(z.device), None]
    n, k = len(x), len(classes)
    target = torch.zeros(n, k, len(alphas), dtype=torch.float64)
    own, trips = torch.zeros_like(target), []
    stayed = codec.decode(z)
    for j in range(k):
        for i, alpha in enumerate(alphas):
            moved = stayed if alpha == 0 else codec.decode(z + alpha * vectors[:, j])
            said = judge.probability(moved)
            target[:, j, i] = said[:, j]
            own[:, j, i] = said.gather(1, source[:, None])[:, 0]
        if back:
            there = codec.decode(z + vectors[:, j])
            trips.append(_error(codec.decode(codec.encode(there) - vectors[:, j]), x))
    trip = torch.stack(trips, 1) if trips else torch.zeros(n, 0, dtype=torch.float64)
    grid = torch.tensor(alphas, dtype=torch.float64)
    return Arithmetic(grid, source, classes, target, own, _error(stayed, x), trip)


def _check_classes(judge: Judge, y: Tensor, centroids: Moments) -> None:
    """Raise Unavailable unless judge and centroids know the same classes, and all labels."""
    classes, y = centroids.classes.cpu(), y.cpu()
    if not torch.equal(judge.classes, classes):
        raise Unavailable(
            f"the judge knows the classes {judge.classes.tolist()}, the centroids "
            f"{classes.tolist()}; make both from the same training rows"
        )
    unknown = (~torch.isin(y, classes)).nonzero().flatten()
    if len(unknown):
        row = int(unknown[0])
        raise Unavailable(f"no training row has the label {float(y[row]):g} of row {row}")


def _error(a: Tensor, b: Tensor) -> Tensor:
    return rows_of(a.cpu().double() - b.cpu().double()).square().sum(1)


@metric("paths", "train", "labels", better="higher")
def arithmetic_target(draws: Draws) -> Estimate:
    """Probability of the target class after adding the difference of two class centroids."""
    found = _arithmetic(draws).arithmetic
    values = found.elsewhere(found.target[:, :, found.at(1.0)])
    share = Estimate.mean(values, kind="unbiased")
    return with_note(share, _note(draws))


@metric("paths", "train", "labels", better="higher")
def arithmetic_identity(draws: Draws) -> Estimate:
    """Probability of the own class where nothing is added: of the reconstruction."""
    found = _arithmetic(draws).arithmetic
    values = found.elsewhere(found.own[:, :, found.at(0.0)])
    share = Estimate.mean(values, kind="unbiased")
    return with_note(share, _note(draws))


@metric("paths", "train", "labels", better="lower")
def round_trip(draws: Draws) -> Estimate:
    """Squared error after the way to another class and back, each time decoded and encoded."""
    (found, points), features = _arithmetic(draws), draws.x[0].numel()
    if not found.round_trip.shape[1]:
        raise Unavailable(
            "the model has no encoder, by which a moved sample would come back: codes='inversion' "
            "searches for its point"
        )
    values = found.elsewhere(found.round_trip) / features
    plain = float(found.error.mean()) / features
    note = f"; {points.note}" if points.note else ""
    return Estimate.mean(
        values,
        kind="unbiased",
        unit="per feature",
        note=f"against the data; {plain:.3g} without the way{note}",
    )


class _Found(NamedTuple):
    """The arithmetic of a pair, by the points that it was made of."""

    arithmetic: Arithmetic
    points: Points


@once
def _arithmetic(draws: Draws) -> _Found:
    judge, _ = judge_of(draws)
    few = thin({"x": draws.x, "y": draws.labels}, draws.few)

    def known() -> Tensor | None:
        return None if draws.train_latents is None else draws.train_latents.mean

    points = points_of(
        draws.model, draws.guide, draws.train, few, draws.codes, seed=draws.seed, known=known
    )
    centroids = class_moments(points.z, points.labels)
    back = points.codec.draw is None
    found = arithmetic(
        points.codec, judge, points.x, points.y, centroids, (0.0, 1.0), back=back, z=points.own
    )
    return _Found(found, points)


def _note(draws: Draws) -> str:
    (found, points), accuracy = _arithmetic(draws), judge_of(draws)[1]
    said = f"{len(found.classes)} classes; by a logistic regression that is right on {accuracy:.1%}"
    said += " of data"
    return f"{said}; {points.note}" if points.note else said
