"""Generated samples of a pair under labels that are given."""

from __future__ import annotations

import torch
from torch import Tensor

from priory.evaluation.rows import labelled_rows
from priory.evaluation.sample_sets import Sets, Unavailable
from priory.inference.phases.arguments import bind

_PROBE = 200  # generated samples by which a model's dependence on the label is seen


def labelled_samples(draws: Sets, labels: Tensor, site: str = "x") -> Tensor:
    """Draw a generated sample for each label, `(n, *event)`.

    Args:
        draws: of a pair; to be read inside `sealed`.
        labels: the labels y that are given, integers `(n,)`.
        site: what to return: x, or `x_mean` for the means of p(x | z, y).

    Raises:
        Unavailable: if the model has no label y, or x does not depend on it.
    """
    draws.common("labelled", lambda: _check(draws))
    generated: Tensor = draws.generate(site, len(labels), {"y": labels})
    return generated


def known_labels(draws: Sets) -> Tensor:
    """Return the labels that occur among the training rows, else among the data, in order."""
    columns = draws.columns if draws.reference is None else draws.reference
    if "y" not in columns or columns["y"].is_floating_point() or columns["y"].dim() != 1:
        raise Unavailable("the data have no labels y that are integers")
    known = labelled_rows(columns)["y"].unique().cpu()
    if not len(known):
        raise Unavailable("no label is known")
    return known


def _check(draws: Sets) -> None:
    """Raise Unavailable unless samples of x change with the label, all else being equal."""
    known = known_labels(draws)
    if "y" not in bind(draws.model, draws.columns):
        try:
            drawn = draws.generate("y", 2)
        except Unavailable as error:
            raise Unavailable("the model has no label y that could be given") from error
        if drawn.is_floating_point() or drawn.dim() != 1:
            raise Unavailable("the model's y is no label: it is not one integer for each row")
    wanted = known[torch.arange(_PROBE) % len(known)]
    one, other = (draws.generate("x", _PROBE, {"y": y}) for y in (wanted, wanted.roll(1)))
    if torch.equal(one, other):
        raise Unavailable("the model's x does not depend on the label y")
