"""Several runs side by side: one row per label, mean and spread over seeds, the best marked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from priory.evaluation.report.cells import Entry, Row, column_of
from priory.evaluation.report.comparison_page import comparison_html
from priory.evaluation.report.comparison_text import comparison_text
from priory.evaluation.report.lines import is_anchor
from priory.evaluation.report.paired import LEVEL, Difference, paired_differences
from priory.evaluation.report.report import Report
from priory.evaluation.report.written import Written
from priory.evaluation.table import METRICS

_SCHEMA = 1


@dataclass(frozen=True)
class Comparison(Written):
    """Runs side by side. Built by `comparison_table`.

    Args:
        rows: one per label.
        entries: the runs behind them.
        differences: of each label from the best, paired by test row, for the metrics that have a
            better direction.
    """

    rows: tuple[Row, ...]
    entries: tuple[Entry, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns; the anchors, which no label changes, are rows instead."""
        return tuple(name for name in self.rows[0].cells if not is_anchor(name))

    @property
    def title(self) -> str:
        """What is compared on what."""
        return f"Comparison on {self.entries[0].report.data}"

    @property
    def legend(self) -> str:
        """How to read the numbers."""
        counts = sorted({len(row.seeds) for row in self.rows})
        several = " or ".join(str(count) for count in counts if count > 1)
        parts = [f"mean ± standard deviation over {several} seeds"] if several else []
        parts += ["value (standard error over the data) for a single seed"] if 1 in counts else []
        parts += ["* the best; differences within the spread or error are noise"]
        return "; ".join(parts)

    @property
    def paired_legend(self) -> str:
        """How to read the differences; empty where there are none."""
        known = [d for d in self.differences if d.value is not None]
        if not known:
            return ""
        ends = "95% intervals of the differences between test rows' values"
        seeds = (
            " averaged over seeds, of new rows and new seeds"
            if any(d.seeds_se is not None for d in known)
            else ", of new rows; what another seed would change is not in them"
        )
        return f"{ends}{seeds}; better and worse are at {LEVEL:.0%} after Holm's correction"

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Metrics whose values are to be doubted, with whose and why."""
        told: dict[str, list[str]] = {}
        for name in self.metrics:
            doubts = [
                (entry.label, entry.report[name].warnings[0])
                for entry in self.entries
                if name in entry.report and entry.report[name].warnings
            ]
            if doubts:
                labels = ", ".join(dict.fromkeys(label for label, _ in doubts))
                several = len({text for _, text in doubts}) > 1
                what = f"{labels}; the first: " if several else f"{labels}: "
                told.setdefault(what + doubts[0][1], []).append(name.replace("_", " "))
        return [(", ".join(names), text) for text, names in told.items()]

    @property
    def notes(self) -> list[str]:
        """The reasons of the cells without a value, and of differences that are not had, once."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            for name, cell in row.cells.items():
                if cell.value is None and not is_anchor(name):
                    found.setdefault((name, cell.note), []).append(row.label)
        lines = [
            f"{name.replace('_', ' ')}: n/a for {', '.join(labels)}: {note}"
            for (name, note), labels in found.items()
        ]
        reasons: dict[str, list[str]] = {}
        for d in self.differences:
            if d.value is None and d.metric in self.metrics:
                reasons.setdefault(d.note, []).append(d.metric.replace("_", " "))
        return lines + [
            f"no paired differences of {', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in reasons.items()
        ]

    def __str__(self) -> str:
        return comparison_text(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values: rows, differences, and every run's report."""
        rows = [
            {
                "label": row.label,
                "seeds": list(row.seeds),
                "seconds": row.seconds,
                "cells": {name: vars(cell) for name, cell in row.cells.items()},
            }
            for row in self.rows
        ]
        entries = [
            {"label": e.label, "seed": e.seed, "seconds": e.seconds, "report": e.report.as_dict()}
            for e in self.entries
        ]
        differences = [difference.as_dict() for difference in self.differences]
        return {"schema": _SCHEMA, "rows": rows, "differences": differences, "entries": entries}

    @classmethod
    def from_json(cls, path: str | Path) -> Comparison:
        """Read a comparison that `to_json` wrote.

        Args:
            path: the file.

        Raises:
            ValueError: if it is of another schema.
        """
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values.get("schema") != _SCHEMA:
            raise ValueError(f"{path} has schema {values.get('schema')!r}, expected {_SCHEMA}")
        entries = [
            Entry(e["label"], e["seed"], Report.from_dict(e["report"]), e["seconds"])
            for e in values["entries"]
        ]
        differences = (Difference.from_dict(d) for d in values.get("differences", ()))
        return cls(_rows(entries), tuple(entries), tuple(differences))

    def html(self) -> str:
        """Return the tables and the pictures, side by side, as one page that needs no other."""
        return comparison_html(self)


def comparison_table(entries: Sequence[Entry]) -> Comparison:
    """Put runs side by side.

    Args:
        entries: the runs; those that share a label are averaged over their seeds.

    Raises:
        ValueError: if there are no entries, or they were judged on different rows.

    Example:
        >>> table = comparison_table([Entry("normal", 0, report, 12.5)])
        >>> table.entries[0].label
        'normal'
    """
    if not entries:
        raise ValueError("a comparison needs at least one entry, got none")
    _check_same_rows(entries)
    rows = _rows(entries)
    names = [n for n in rows[0].cells if n in METRICS and METRICS[n].better is not None]
    differences = (d for name in names for d in paired_differences(entries, name))
    return Comparison(rows, tuple(entries), tuple(differences))


def _check_same_rows(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for entry in entries:
        if not first.report.same_rows(entry.report):
            told = [
                f"{e.label} on {r.n:,} rows of {r.data}{r.split and ', ' + r.split}"
                for e, r in ((first, first.report), (entry, entry.report))
            ]
            raise ValueError(
                f"the runs were judged on different rows: {' and '.join(told)}; judge all on the "
                "same data, split and limit"
            )


def _rows(entries: Sequence[Entry]) -> tuple[Row, ...]:
    labels = list(dict.fromkeys(entry.label for entry in entries))
    groups = {label: [e for e in entries if e.label == label] for label in labels}
    names = list(dict.fromkeys(r.name for e in entries for r in e.report if r.applicable))
    columns = {name: column_of(name, groups) for name in names}
    return tuple(
        Row(
            label,
            tuple(e.seed for e in group),
            {name: columns[name][label] for name in names},
            _mean([e.seconds for e in group if e.seconds is not None], len(group)),
        )
        for label, group in groups.items()
    )


def _mean(seconds: list[float], count: int) -> float | None:
    return statistics.fmean(seconds) if len(seconds) == count else None
