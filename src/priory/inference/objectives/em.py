"""Maximum likelihood by sweeps of EM, or in closed form, of a pair whose likelihood is exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.phases import Phases


class EM(Objective):
    r"""Negative log likelihood, exact; each step is the pair's own step of EM on all training rows.

    .. math:: -\frac1n \sum_i \log p_\theta(x_i), \qquad \theta \leftarrow
        \arg\max_{\theta'} \sum_i E_{p_\theta(z \mid x_i)}[\log p_{\theta'}(x_i, z)]

    Dempster, Laird and Rubin, 1977, Maximum likelihood from incomplete data via the EM algorithm.
    Its value is that before the sweep, in nats per datum; from one step to the next it does not
    rise, as long as the rows are the same. A pair with a closed form is at its optimum after one
    step. The pair's `maximise` moves the parameters: there is no gradient, and no learning rate. In
    evaluation mode the value is given, and nothing moves.

    Raises:
        ValueError: At a step, the pair has no such methods, or rows have weights; before a
            training, there are several processes; in `fit`, a batch is not all of the training
            rows, or other terms are added.

    Example:
        >>> from priory import fit
        >>> from priory.data import Data
        >>> from priory.models import ProbabilisticPCA
        >>> data = Data.named("ring", rows=500)
        >>> run = fit(ProbabilisticPCA(1), EM(), data, steps=2, batch_size=500)
        >>> run.history[1]["loss"] <= run.history[0]["loss"]
        True
    """

    name = "em"
    whole = True
    alone = "sweeps over all rows"

    @torch.no_grad()
    def loss(self, phases: Phases) -> Tensor:
        """Return the negative log likelihood before the sweep, and take it in training mode."""
        pair: Any = owner(phases.model)
        if not (hasattr(pair, "maximise") and hasattr(pair, "log_likelihood")):
            raise ValueError(
                f"EM() needs a pair with an exact likelihood, with methods log_likelihood and "
                f"maximise; {type(pair).__name__} has none: train it by a bound, such as ELBO()"
            )
        if phases.weight is not None:
            raise ValueError(
                "EM() counts every row once, and the rows have weights: leave the column 'weight' "
                "out, or train by ELBO()"
            )
        loss: Tensor = -pair.log_likelihood(**bind(pair.log_likelihood, phases.columns)).mean()
        if pair.training and bool(loss.isfinite()):
            pair.maximise(**bind(pair.maximise, phases.columns))
        return loss


def check_whole(objective: Any, size: int, rows: int) -> None:
    """Raise a ValueError unless an objective that takes all training rows at once gets them.

    Args:
        objective: What is trained by.
        size: Rows of a batch.
        rows: Training rows.
    """
    if getattr(objective, "whole", False) and size < rows:
        raise ValueError(
            f"{type(objective).__name__}() takes all {rows:,} training rows in one batch, got "
            f"batch_size={size:,}: set batch_size={rows}, or train by ELBO()"
        )
