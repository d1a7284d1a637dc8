"""A judge of classes that knows no model: logistic regression on the pixels of training rows."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from priory.evaluation.rows import rows_of

_ITERATIONS = 100


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
