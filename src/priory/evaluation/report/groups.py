"""A report's records as a reader meets them: in groups, each metric beside its anchors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field

from priory.evaluation.record import Record, unusual_likelihood
from priory.evaluation.report.text import collect
from priory.evaluation.sample_sets import Anchor
from priory.evaluation.table import ANCHORS, GROUPS, METRICS

OTHER = "other"
HEADINGS: dict[str, str] = {
    "likelihood": "how well the model explains rows that it was not trained on",
    "posterior": "whether the guide is the model's posterior",
    "samples": "how near generated samples and reconstructions come to data",
    "latents": "what the latents hold",
    "paths": "what lies on paths through the latent space",
    "insight": "what else is worth knowing",
    OTHER: "metrics of your own",
}
ANCHOR_TITLES: dict[Anchor, str] = {"real": "real data", "baseline": "baseline"}


@dataclass(frozen=True)
class Line:
    """A metric of a report, and what it says of real data and of the baseline.

    Args:
        record: the metric's.
        anchors: the records of its anchors, by anchor.
    """

    record: Record
    anchors: dict[Anchor, Record] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What the metric is, in a sentence; empty for a metric that is not in the table."""
        if self.record.name not in METRICS:
            return ""
        text = inspect.getdoc(METRICS[self.record.name].function) or ""
        return " ".join(text.split("\n\n")[0].split()).removesuffix(".")

    def facts(self, n: int | None = None) -> str:
        """Return how the number was obtained: its kind, K, steps and n.

        Args:
            n: the report's own number of rows, which is not repeated.
        """
        r = self.record
        facts: list[str] = [] if r.kind == "unbiased" else [r.kind]
        facts += [unusual] if (unusual := unusual_likelihood(r.quantity)) else []
        facts += [] if r.particles is None else [f"K = {r.particles:,}"]
        facts += [] if r.steps is None else [f"{r.steps:,} steps"]
        facts += [] if r.n in (0, n) else [f"n = {r.n:,}"]
        return ", ".join(facts)


def grouped(records: Iterable[Record]) -> dict[str, list[Line]]:
    """Return the records that have a value, by group in the table's order; anchors with theirs.

    Args:
        records: of one report.
    """
    found = list(records)
    by_name = {r.name: r for r in found}
    groups: dict[str, list[Line]] = {group: [] for group in (*GROUPS, OTHER)}
    for record in found:
        if not record.applicable or (is_anchor(record.name) and _metric(record.name) in by_name):
            continue
        anchors = {a: by_name.get(f"{record.name}_{a}") for a in ANCHORS}
        kept = {a: r for a, r in anchors.items() if r is not None}
        groups[group_of(record.name)].append(Line(record, kept))
    return {group: lines for group, lines in groups.items() if lines}


def absent(records: Iterable[Record]) -> dict[str, list[str]]:
    """Return the titles of the metrics that have no value, by their reason.

    Args:
        records: of one report.
    """
    return collect(
        (record.note, record.title)
        for record in records
        if not record.applicable and not is_anchor(record.name)
    )


def group_of(name: str) -> str:
    """Return the group that a metric or an anchor stands in.

    Args:
        name: the record's.
    """
    name = _metric(name) if is_anchor(name) else name
    return METRICS[name].group if name in METRICS else OTHER


def is_anchor(name: str) -> bool:
    """Return whether a record is an anchor: about the data, not the pair."""
    metric, _, anchor = name.rpartition("_")
    return metric in METRICS and METRICS[metric].anchored and anchor in ANCHORS


def _metric(anchor: str) -> str:
    return anchor.rpartition("_")[0]


def heading(name: str) -> str:
    """Return a metric's name with an arrow towards the better."""
    better = METRICS[name].better if name in METRICS else None
    arrow = {"lower": " ↓", "higher": " ↑", None: ""}[better]
    return name.replace("_", " ") + arrow
