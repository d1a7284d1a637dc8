"""How well ways through the latent space keep what they should."""

from __future__ import annotations

import torch

from priory.evaluation.draws import Draws
from priory.evaluation.interpolation.arithmetic import (
    Arithmetic,
    arithmetic,
    check_classes,
    class_moments,
)
from priory.evaluation.interpolation.codec import Codec
from priory.evaluation.interpolation.judge import Judge
from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric, with_note
from priory.evaluation.rows import thin
from priory.evaluation.sample_sets import Unavailable

_JUDGE_ROWS = 2000  # training rows of the judge, enough for its purpose and cheap
_CLASSES = 100  # at most: every datum is moved to each


@metric("paths", "train", "labels", "latents", better="higher")
def arithmetic_target(draws: Draws) -> Estimate:
    """Probability of the target class after adding the difference of two class centroids."""
    found = _arithmetic(draws)
    values = found.elsewhere(found.target[:, :, found.at(1.0)])
    share = Estimate.mean(values, kind="unbiased")
    return with_note(share, _told(draws, len(found.classes)))


@metric("paths", "train", "labels", "latents", better="higher")
def arithmetic_identity(draws: Draws) -> Estimate:
    """Probability of the own class where nothing is added: of the reconstruction."""
    found = _arithmetic(draws)
    values = found.elsewhere(found.own[:, :, found.at(0.0)])
    share = Estimate.mean(values, kind="unbiased")
    return with_note(share, _told(draws, len(found.classes)))


@metric("paths", "train", "labels", "latents", better="lower")
def round_trip(draws: Draws) -> Estimate:
    """Squared error after the way to another class and back, each time decoded and encoded."""
    found, features = _arithmetic(draws), draws.x[0].numel()
    values = found.elsewhere(found.round_trip) / features
    plain = float(found.error.mean()) / features
    return Estimate.mean(
        values,
        kind="unbiased",
        unit="per feature",
        note=f"against the data; {plain:.3g} without the way",
    )


def _arithmetic(draws: Draws) -> Arithmetic:
    return draws.once("arithmetic", lambda: _compute(draws))


def _compute(draws: Draws) -> Arithmetic:
    judge, _ = _judge(draws)
    codec = Codec.of_pair(draws.model, draws.guide, draws.columns, seed=draws.seed)
    train = draws.train_latents
    if train is None:
        raise Unavailable("there are no training rows")
    centroids = class_moments(codec.free(train.mean).cpu(), draws.train["y"].cpu())
    few = thin({"x": draws.x, "y": draws.labels}, draws.few)
    try:
        check_classes(judge, few["y"], centroids)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    return arithmetic(codec, judge, few["x"], few["y"], centroids, (0.0, 1.0))


def _judge(draws: Draws) -> tuple[Judge, float]:
    """Return the judge and its accuracy on the data: of the data alone, so made once for all."""
    if "y" not in draws.train:
        raise Unavailable("the training rows have no labels (no column y)")

    def make() -> tuple[Judge, float]:
        x, y = draws.train["x"], draws.train["y"]
        classes = y.unique()
        if not 2 <= len(classes) <= _CLASSES:
            raise Unavailable(f"needs from 2 to {_CLASSES} classes, got {len(classes)}")
        share = -(-_JUDGE_ROWS // len(classes))
        groups = [thin({"row": (y == k).nonzero()[:, 0]}, share)["row"] for k in classes]
        rows = torch.cat(groups)
        judge = Judge(x[rows], y[rows])
        return judge, float(judge.hits(draws.x, draws.labels).mean())

    return draws.common("judge", make)


def _told(draws: Draws, classes: int) -> str:
    accuracy = _judge(draws)[1]
    return f"{classes} classes; by a logistic regression that is right on {accuracy:.1%} of data"
