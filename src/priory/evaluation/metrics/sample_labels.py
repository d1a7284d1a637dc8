"""Whether samples under a given label are of that label."""

from __future__ import annotations

import torch

from priory.evaluation.draws import Draws
from priory.evaluation.labelled import known_labels, labelled_samples
from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.samples.agreement import agreement
from priory.evaluation.samples.features import Extractor, extractor


@metric("samples", "train", "labels", better="higher", anchored=True)
def label_agreement(draws: Draws) -> Estimate:
    """Share of samples under a given label in which a classifier of the data sees that label."""
    judge: Extractor = draws.common("label judge", lambda: extractor("classifier", draws))
    known = known_labels(draws)
    wanted = known[torch.arange(draws.n_samples) % len(known)]
    if draws.anchor == "real":
        rows = thin({"x": draws.x, "y": draws.labels}, draws.n_samples)
        x, wanted = rows["x"], rows["y"].cpu()
    elif draws.anchor == "baseline":
        x = draws.generated
        wanted = wanted[: len(x)]
    else:
        x = draws.once("labelled samples", lambda: labelled_samples(draws, wanted))
    check_finite("generated", x)
    found = agreement(known[judge.classes(rows_of(x))], wanted)
    return Estimate.share(
        found.hits,
        kind="unbiased",
        note=f"{found.text}; classes by the classifier of the {judge.text}",
    )
