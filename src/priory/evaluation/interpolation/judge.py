"""A judge of classes that knows no model: logistic regression on the pixels of training rows."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import common

_ITERATIONS = 100
_TRAIN = 2000  # training rows, enough for its purpose and cheap
_CLASSES = 100  # at most: every datum is moved to each


class Judge:
    """Class probabilities by multinomial logistic regression on flattened data.

    Args:
        x: training data, `(n, *shape)`.
        y: their labels, `(n,)`.
        iterations: of the solver, at most; the judge is as good as its test accuracy says.

    Raises:
        ValueError: if there are fewer than two classes.
    """

    def __init__(self, x: Tensor, y: Tensor, iterations: int = _ITERATIONS) -> None:
        self.classes = y.unique().cpu()
        if len(self.classes) < 2:
            raise ValueError(f"a judge needs at least 2 classes, got {len(self.classes)}")
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(max_iter=iterations, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(rows_of(x).cpu().numpy(), y.cpu().numpy())
        weight, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
        if len(self.classes) == 2:  # then one row scores the second class against the first
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        self._weight, self._bias = weight.double(), bias.double()

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of each class, `(n, classes)`, float64, on the CPU.

        Args:
            x: `(n, *shape)`.
        """
        return torch.softmax(rows_of(x).cpu().double() @ self._weight.T + self._bias, -1)

    def hits(self, x: Tensor, y: Tensor) -> Tensor:
        """Return for each row whether its likeliest class is its own, 1 or 0, `(n,)`.

        Args:
            x: `(n, *shape)`.
            y: labels, `(n,)`.
        """
        return (self.classes[self.probability(x).argmax(1)] == y.cpu()).double()


@common
def judge_of(draws: Draws) -> tuple[Judge, float]:
    """Return the judge of a pair's training rows, and its accuracy on the data.

    Args:
        draws: of the pair.

    Raises:
        Unavailable: if there are no labelled training rows, or not from 2 to 100 classes.
    """
    if "y" not in draws.train:
        raise Unavailable("the training rows have no labels (no column y)")
    x, y = draws.train["x"], draws.train["y"]
    classes = y.unique()
    if not 2 <= len(classes) <= _CLASSES:
        raise Unavailable(f"needs from 2 to {_CLASSES} classes, got {len(classes)}")
    share = -(-_TRAIN // len(classes))
    groups = [thin({"row": (y == k).nonzero()[:, 0]}, share)["row"] for k in classes]
    rows = torch.cat(groups)
    judge = Judge(x[rows], y[rows])
    return judge, float(judge.hits(draws.x, draws.labels).mean())
