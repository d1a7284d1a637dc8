"""What a categorical code says: of its sample, and of the label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.latents.codes import code_hits, information_values
from priory.evaluation.latents.neighbours import check_labels
from priory.evaluation.metrics.clustering import choices
from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric
from priory.evaluation.rows import blocks
from priory.evaluation.sample_sets import Unavailable
from priory.inference.phases.phases import Phases

_INFORMATION, _ACCURACY = 41, 42  # random streams
_ROWS = 500  # rows at a time


@metric("latents", "phase", better="higher")
def code_information(draws: Draws) -> Estimate:
    """Bound on what a sample tells of its own categorical code, from below."""
    site, values = _site(draws), 0
    like, parts = placement(draws.model, draws.guide), []
    for start, rows in blocks(draws.columns, _ROWS, like):
        reseed(next(iter(rows.values())).device, draws.seed, _INFORMATION, start)
        asleep = Phases(draws.model, draws.guide, columns=rows).asleep
        distribution = asleep.distribution(site, of="model")
        entropy = distribution.entropy().expand(len(asleep.log_q(site)[0]))
        values = _values(distribution)
        parts.append(information_values(entropy, asleep.log_q(site)[0]).cpu())
    note = f"H({site}) + log q({site} | x) of samples; {values} values tell at most "
    return Estimate.mean(
        torch.cat(parts),
        kind="lower bound",
        unit="nats",
        note=f"{note}{math.log(values):.4f}",
    )


@metric("latents", "labels", "phase", better="higher")
def code_accuracy(draws: Draws) -> Estimate:
    """Accuracy of a categorical code as a classifier, its values taken for the labels."""
    site, labels = _site(draws), draws.labels
    try:
        check_labels(labels)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    known = [labels, *([draws.train["y"]] if "y" in (draws.reference or {}) else [])]
    like, hits = placement(draws.model, draws.guide), []
    for start, rows in blocks(draws.columns, _ROWS, like):
        reseed(next(iter(rows.values())).device, draws.seed, _ACCURACY, start)
        distribution = Phases(draws.model, draws.guide, columns=rows).awake.distribution(site)
        found = choices(distribution)
        if found is None or found.dim() != 2:
            raise Unavailable(f"q({site} | x) is not one distribution for each row")
        classes = 1 + max(int(y.max()) for y in known)
        if found.shape[1] != classes:
            raise Unavailable(f"{site} has {found.shape[1]} values, and there are {classes} labels")
        hits.append(code_hits(found, rows["y"]).cpu())
    note = f"the value k of {site} taken for the label k, which means something if labels taught it"
    return Estimate.share(torch.cat(hits), kind="unbiased", note=note)


def _site(draws: Draws) -> str:
    """Return the name of the first categorical latent."""
    phase = draws.phase
    found = [s for s in phase.latents if choices(phase.distribution(s)) is not None]
    if not found:
        raise Unavailable("the guide draws no categorical latent")
    return found[0]


def _values(distribution: object) -> int:
    found: Tensor | None = choices(distribution)
    if found is None:
        raise Unavailable("the model's distribution of the code is not categorical")
    return found.shape[-1]
