"""The cells of a comparison: a metric of one label over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from priory.evaluation.record import Record
from priory.evaluation.report.report import Report
from priory.evaluation.table import METRICS


@dataclass(frozen=True)
class Entry:
    """One finished run of a comparison.

    Args:
        label: what it is an instance of, such as a prior and an objective; runs that share it
            differ in their seed alone.
        seed: seed of its training.
        report: its evaluation.
        seconds: how long it trained, if that is known.
    """

    label: str
    seed: int
    report: Report
    seconds: float | None = None


@dataclass(frozen=True)
class Cell:
    """A metric of one label over its seeds.

    Args:
        value: mean over seeds; `None` if the metric is not applicable to one of them.
        spread: standard deviation over seeds; `None` for a single one.
        se: mean standard error over the data.
        kind: as in `Record`.
        decimals: how many of them are worth printing, the same for a metric's whole column.
        best: whether no other label has a better mean.
        note: the reason, where there is no value.
    """

    value: float | None
    spread: float | None
    se: float | None
    kind: str
    decimals: int = 4
    best: bool = False
    note: str = ""

    @property
    def text(self) -> str:
        """The value with its spread over seeds, or with its standard error in brackets."""
        if self.value is None:
            return "n/a"
        value = f"{self.value:.{self.decimals}f}"
        if self.spread is not None:
            return f"{value} ± {self.spread:.{self.decimals}f}"
        return value if self.se is None else f"{value} ({self.se:.{self.decimals}f})"

    @property
    def starred(self) -> str:
        """The text, with a star if it is the best."""
        return self.text + ("*" if self.best else " ")


@dataclass(frozen=True)
class Row:
    """One label of a comparison.

    Args:
        label: its name.
        seeds: seeds of its runs.
        cells: by metric.
        seconds: mean training time, if that of each run is known.
    """

    label: str
    seeds: tuple[int, ...]
    cells: dict[str, Cell]
    seconds: float | None = None


def column_of(name: str, groups: dict[str, list[Entry]]) -> dict[str, Cell]:
    """Return a metric's cells by label, the best marked where that means something.

    Args:
        name: the metric.
        groups: runs by label.
    """
    cells = {label: _cell(name, group) for label, group in groups.items()}
    errors = [cell.se or cell.spread for cell in cells.values()]
    known = [error for error in errors if error]
    decimals = 1 - math.floor(math.log10(statistics.median(known))) if known else 1
    cells = {
        label: replace(cell, decimals=min(8, max(0, decimals))) for label, cell in cells.items()
    }
    better = METRICS[name].better if name in METRICS else None
    found = {label: cell.value for label, cell in cells.items() if cell.value is not None}
    records = [e.report[name] for label in found for e in groups[label]]
    if better is None or len(found) < 2 or unlike(records):
        return cells
    best = (min if better == "lower" else max)(found.values())
    return {label: replace(cell, best=cell.value == best) for label, cell in cells.items()}


def unlike(records: Sequence[Record]) -> str:
    """Return in what records differ that are not to be ranked; empty if they can be.

    A bound by more samples is nearer to what it bounds: only bounds of like effort are ranked.

    Args:
        records: of one metric that have a value.
    """
    facts: dict[str, Iterable[Any]] = {
        "quantities": (record.quantity for record in records if record.quantity),
        "numbers of rows": (record.n for record in records),
        "kinds": (record.kind for record in records),
        "K": (record.particles for record in records),
        "steps": (record.steps for record in records),
    }
    for what, found in facts.items():
        distinct = list(dict.fromkeys(map(str, found)))
        if len(distinct) > 1:
            return f"different {what}: {(' and ' if what == 'quantities' else ', ').join(distinct)}"
    return ""


def _cell(name: str, group: list[Entry]) -> Cell:
    records = [entry.report[name] for entry in group if name in entry.report]
    if len(records) < len(group):
        return Cell(None, None, None, "not applicable", note="not measured")
    for record in records:
        if not record.applicable:
            return Cell(None, None, None, record.kind, note=record.note)
    values = [record.value for record in records if record.value is not None]
    spread = statistics.stdev(values) if len(values) > 1 else None
    errors = [record.se for record in records if record.se is not None]
    se = statistics.fmean(errors) if errors else None
    return Cell(statistics.fmean(values), spread, se, records[0].kind)
