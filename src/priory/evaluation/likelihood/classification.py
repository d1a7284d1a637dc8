"""How well a pair predicts the labels of data: by the p(y | x) of its method `classify`."""

from __future__ import annotations

import torch
from torch import Tensor

from priory.evaluation.isolation import seeded
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.sample_sets import Sets, once
from priory.inference.phases.arguments import owner

_STREAM = 44  # random
_ROWS = 1000  # rows at a time


def log_classes(draws: Sets) -> Tensor:
    """Return log p(y | x) of each datum and class, `(n, classes)`, in nats, float64, on the CPU.

    Args:
        draws: of a pair, with labels or without.

    Raises:
        Unavailable: the pair has no method `classify`, or what it returns is NaN.
    """
    classify = getattr(owner(draws.model), "classify", None)
    if not callable(classify):
        raise Unavailable("the pair has no classify(x), which returns p(y | x)")
    logits = [classify(rows["x"]).logits.detach() for rows in seeded(draws, _STREAM, _ROWS)]
    found = torch.cat([part.double().log_softmax(-1).cpu() for part in logits])
    if len(bad := found.isnan().any(1).nonzero().flatten()):
        raise Unavailable(f"p(y | x) of row {int(bad[0])} and {len(bad) - 1} more is NaN")
    return found


@once
def log_predicted(draws: Sets) -> Tensor:
    """Return log p(y | x) of each datum and label, `(n, classes)`, in nats, float64, on the CPU.

    Raises:
        Unavailable: the pair has no method `classify`, or a label is none of its classes.
    """
    found = log_classes(draws)
    labels = draws.labels.cpu()
    if bool(((labels < 0) | (labels >= found.shape[1])).any()):
        raise Unavailable(f"the pair knows {found.shape[1]} classes, and the data have others")
    return found


@metric("likelihood", "labels", better="higher")
def accuracy(draws: Sets) -> Estimate:
    """Share of data whose label is the likeliest by the pair's own p(y | x)."""
    labels = draws.labels.cpu()
    hits = (log_predicted(draws).argmax(1) == labels).double()
    shares = {int(label): float(hits[labels == label].mean()) for label in labels.unique()}
    worst = min(shares, key=shares.__getitem__)
    note = f"worst label {worst}: {shares[worst]:.3f}"
    return Estimate.share(hits, kind="unbiased", note=note)


@metric("likelihood", "labels", better="lower")
def label_nll(draws: Sets) -> Estimate:
    """Negative log-probability -log p(y given x) of the labels, by the pair's own classify."""
    found = log_predicted(draws)
    values = -found.gather(1, draws.labels.cpu()[:, None]).squeeze(1)
    return Estimate.mean(values, kind="unbiased", unit="nats")
