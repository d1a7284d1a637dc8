"""Labels: their distribution, from the training rows' frequencies."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor, nn

from priory.data.class_names import UNKNOWN
from priory.distributions.categorical import perturbed
from priory.lookup import positive
from priory.nets import one_hot


class Labels(dist.Categorical):
    """A categorical distribution; draws wait for no device, unknown labels have density NaN."""

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw integers, (*sample_shape, *batch), by the Gumbel-max trick."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape) + self.logits.shape[-1:]
            return perturbed(self.logits, shape).argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of labels (*batch), in nats."""
        rows = one_hot(value, self.logits.shape[-1], self.logits)
        return (rows * self.logits).sum(-1)


def averaged(log_probs: Tensor) -> Labels:
    """Return the mean of categorical distributions, given by log-probabilities (n, *batch, k)."""
    return Labels(logits=log_probs.logsumexp(0) - math.log(len(log_probs)))


class ClassPrior(nn.Module):
    """p(y): the frequencies of the labels among the training rows.

    Args:
        classes: Number of labels; y is a integer from 0. None takes the training rows'.
        partly: Whether rows may lack their label; the frequencies are those of the others.

    Raises:
        ValueError: The number isn't positive.
    """

    log_frequencies: Tensor

    def __init__(self, classes: int | None = None, partly: bool = False) -> None:
        super().__init__()
        self.classes: Any = None if classes is None else positive("classes", classes)
        self.partly = partly

    @property
    def width(self) -> int:
        """Number of coordinates of a label's indicator vector."""
        return int(self.classes)

    def build(self, y: Tensor | None) -> None:
        """Take the frequencies of labels.

        Args:
            y: Labels of all training rows, (n,), integers from 0.

        Raises:
            ValueError: There are no labels, one is out of range, or a class has none.
        """
        if self.partly and y is not None:
            known = y[y != UNKNOWN]
            y = known if len(known) else None
        self.classes = count_classes(self.classes, y)
        self.register_buffer("log_frequencies", label_frequencies(y, self.classes).log())

    def indicators(self, y: Tensor, like: Tensor) -> Tensor:
        """Return labels (*batch) as vectors (*batch, classes), as large as a latent of that size.

        So a net that is just drawn heeds the label.
        """
        return one_hot(y, self.classes, like) * math.sqrt(self.classes)

    def forward(self) -> Labels:
        """Return p(y), batch shape ()."""
        return Labels(logits=self.log_frequencies)


def count_classes(classes: int | None, y: Tensor | None) -> int:
    """Return how many classes there are: as many as are asked for, else as the labels have.

    Args:
        classes: The number that is asked for, if any.
        y: Labels, (n,), integers from 0; -1 where unknown.

    Raises:
        ValueError: Neither says.
    """
    if classes is not None:
        return classes
    if y is None:
        raise ValueError(
            "the number of classes is not known without labels: build the pair with the labels y "
            "of the training rows, or set classes"
        )
    return int(y.max()) + 1


def label_frequencies(y: Tensor | None, classes: int) -> Tensor:
    """Return each class's share of the labels, (classes,), in float64.

    Args:
        y: Labels of all training rows, (n,), integers from 0.
        classes: Number of classes.

    Raises:
        ValueError: There are none, they are no integers, one is out of range, or a class has
            none.
    """
    if y is None:
        raise ValueError(
            "the pair learns p(y) from the labels of all training rows and got none: call "
            "build(x, y) with them before its programs run; fit does so from the column 'y'"
        )
    if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(
            f"labels y must be integers of shape (n,), got {y.dtype} of shape {tuple(y.shape)}"
        )
    unknown = int((y == UNKNOWN).sum())
    if unknown:
        raise ValueError(
            f"{unknown} of {len(y)} rows have no label (-1), and this pair needs every row's: "
            "leave them out, or use a pair that learns from few labels, such as the recipe m2"
        )
    outside = ((y < 0) | (y >= classes)).nonzero().flatten()
    if len(outside):
        row = int(outside[0])
        raise ValueError(
            f"{len(outside)} of {len(y)} labels are not among 0..{classes - 1}: row {row} has the "
            f"label {int(y[row])}; set classes={max(classes, int(y.max()) + 1)}, or number the "
            "labels from 0"
        )
    counts = y.cpu().bincount(minlength=classes)
    missing = (counts == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(
            f"no training row has the label {', '.join(map(str, missing[:10]))} of the classes "
            f"0..{classes - 1}: set classes to the number of labels, number them without a gap, or "
            "take rows of every class"
        )
    return counts.double() / len(y)
