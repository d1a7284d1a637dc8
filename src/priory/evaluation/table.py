"""The table of metrics. To add one: write a function of draws with `@metric` in one of `FILES`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from priory.data.split import WEIGHT
from priory.evaluation.insight import density, outliers
from priory.evaluation.interpolation import translation, vector_arithmetic
from priory.evaluation.latents import (
    categorical,
    clustering,
    collapse,
    disentanglement,
    hierarchy,
    information,
    layers,
    prior_match,
    probes,
    sticks,
)
from priory.evaluation.likelihood import (
    ais,
    bidirectional,
    bits,
    bound,
    classification,
    conditional,
    imputation,
    steps,
)
from priory.evaluation.posterior import calibration, gaps, predictive
from priory.evaluation.record import Record, Unavailable, not_applicable
from priory.evaluation.registry import GROUPS as GROUPS
from priory.evaluation.registry import METRICS as METRICS
from priory.evaluation.registry import Metric, with_note
from priory.evaluation.registry import metric as metric
from priory.evaluation.rows import thin
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples import (
    discrepancy,
    frechet,
    kernel_distance,
    label_agreement,
    manifold,
    memorisation,
    mixing,
    modes,
    reconstruction,
    transport,
    two_sample,
)
from priory.lookup import suggestion

FILES = (
    bound,
    bits,
    steps,
    conditional,
    classification,
    imputation,
    ais,
    bidirectional,
    gaps,
    calibration,
    predictive,
    information,
    layers,
    prior_match,
    sticks,
    collapse,
    probes,
    clustering,
    hierarchy,
    categorical,
    disentanglement,
    reconstruction,
    discrepancy,
    transport,
    frechet,
    kernel_distance,
    manifold,
    two_sample,
    memorisation,
    modes,
    mixing,
    label_agreement,
    vector_arithmetic,
    translation,
    density,
    outliers,
)
"""The files of metrics, in the order in which these are shown."""


def _sort() -> None:
    """Put the metrics, which were registered as their files were imported, in the files' order."""
    order = [file.__name__ for file in FILES]
    rows = sorted(METRICS.items(), key=lambda item: order.index(item[1].function.__module__))
    METRICS.clear()
    METRICS.update(rows)


_sort()

ANCHORS: dict[Literal["real", "baseline"], str] = {
    "real": "anchor: other real data in place of the samples",
    "baseline": "anchor: each feature drawn by itself from its marginal",
}


def choose(names: Sequence[str] | None) -> dict[str, Metric]:
    """Return the rows of the named metrics, in the table's order.

    Args:
        names: metrics, groups of them, or "all"; a group, like `None`, leaves slow metrics out,
            which "all" and their own names bring in.

    Raises:
        ValueError: if a name is unknown, with the nearest one.
    """
    if names is None:
        return {name: row for name, row in METRICS.items() if not row.slow}
    wanted = [names] if isinstance(names, str) else list(names)
    known = [*METRICS, *GROUPS, "all"]
    for name in wanted:
        if name not in known:
            hint = suggestion(name, known)
            raise ValueError(
                f"unknown metric {name!r}{hint}; priory list metrics shows them, their groups are "
                f"{', '.join(GROUPS)}"
            )
    asked = {*wanted}
    return {
        name: row
        for name, row in METRICS.items()
        if asked & {name, "all"} or (row.group in asked and not row.slow)
    }


def measure(name: str, metric: Metric, draws: Sets) -> list[Record]:
    """Return a metric's record, and those of its anchors.

    Args:
        name: the metric's name.
        metric: its row.
        draws: what it reads.
    """
    records = [_measure(name, metric, draws)]
    for anchor, note in ANCHORS.items() if metric.anchored else ():
        record = _measure(name, metric, draws.anchored(anchor))
        records.append(_renamed(record, f"{name}_{anchor}", note))
    return records


def _measure(name: str, metric: Metric, draws: Sets) -> Record:
    try:
        draws = draws.labelled() if "labels" in metric.needs else draws
        for need in metric.needs:
            getattr(draws, need)
        record = metric.function(draws).record(name, draws.seed)
        record = _weighted(_quantified(record, metric, draws), draws)
        record = _normalised(record, metric, draws)
        return with_note(record, "; ".join(draws.flags)) if draws.flags else record
    except Unavailable as reason:
        return not_applicable(name, str(reason), n=draws.n, seed=draws.seed)


def _quantified(record: Record, metric: Metric, draws: Sets) -> Record:
    """Write into a record what exactly it measures, where its metric leaves that open."""
    if metric.quantity is None or record.value is None:
        return record
    quantity, remark = metric.quantity(draws)
    record = replace(record, quantity=record.quantity or quantity)
    return with_note(record, remark) if remark else record


def _normalised(record: Record, metric: Metric, draws: Sets) -> Record:
    """Add the error of an estimated log normaliser to a number that hangs on it, and say so.

    With it a bound is an estimate, of either sign of error. A difference of two densities may not
    hang on it, and has the larger error all the same.
    """
    needs = {"density", "phase", "posterior"} & {*metric.needs}
    if record.value is None or not needs or record.unit not in ("nats", "bits"):
        return record
    known = getattr(draws, "normaliser", None)
    if known is None:
        return record
    if known.se:
        scale = 1.0 if record.unit == "nats" else 1 / (math.log(2) * draws.x[0].numel())
        se = math.hypot(record.se or 0.0, scale * known.se)
        record = replace(record, se=se, kind="biased")
    return with_note(record, known.note)


def _weighted(record: Record, draws: Sets) -> Record:
    r"""Average a record's values by the rows' weights, where the data have them.

    The values become :math:`m + w_i (v_i - m) / \bar w` with m the weighted mean: their mean is m,
    and their spread gives the standard error of a ratio of sums, also of two runs' difference.
    """
    weight = draws.columns.get(WEIGHT)
    if weight is None or record.value is None:
        return record
    values = record.values
    if values is None or abs(float(values.mean()) - record.value) > 1e-9 * (1 + abs(record.value)):
        return with_note(record, "the rows' weights are not used")
    weight = thin({WEIGHT: weight}, len(values))[WEIGHT].to(values)
    mean = (weight * values).sum() / weight.sum()
    values = mean + weight / weight.mean() * (values - mean)
    se = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
    return with_note(
        replace(record, value=float(mean), se=se, values=values), "rows by their weights"
    )


def _renamed(record: Record, name: str, note: str) -> Record:
    if record.value is None:
        return replace(record, name=name)
    return replace(record, name=name, note=note)
