"""Several runs side by side: one row per label, mean and spread over seeds, the best marked."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from priory.evaluation.report.cells import Entry, Row, column_of, heading, is_anchor
from priory.evaluation.report.page import page, picture_cards
from priory.evaluation.report.report import Report
from priory.evaluation.report.tables import WIDTH, stack_tables

_SCHEMA = 1


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. Built by `comparison_table`.

    Args:
        rows: one per label.
        entries: the runs behind them.
    """

    rows: tuple[Row, ...]
    entries: tuple[Entry, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns; the anchors, which no label changes, are notes instead."""
        return tuple(name for name in self.rows[0].cells if not is_anchor(name))

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
    def notes(self) -> list[str]:
        """The anchors, and the reasons of the cells without a value, each once."""
        anchors = {name: row.cells[name] for row in self.rows for name in row.cells}
        lines = [
            f"{name.replace('_', ' ')} (an anchor): {cell.text}"
            for name, cell in anchors.items()
            if is_anchor(name) and cell.value is not None
        ]
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            for name, cell in row.cells.items():
                if cell.value is None and not is_anchor(name):
                    found.setdefault((name, cell.note), []).append(row.label)
        return lines + [
            f"{name.replace('_', ' ')}: n/a for {', '.join(labels)}: {note}"
            for (name, note), labels in found.items()
        ]

    def __str__(self) -> str:
        labels = ["", *(row.label for row in self.rows)]
        columns = [
            [heading(name) + " ", *(row.cells[name].starred for row in self.rows)]
            for name in self.metrics
        ]
        columns.append(["seconds", *(f"{row.seconds:.1f}" for row in self.rows)])
        notes = [
            textwrap.fill(note, WIDTH, subsequent_indent="  ")
            for note in [self.legend, *self.notes]
        ]
        return "\n".join([*stack_tables(labels, columns), *notes])

    def _repr_html_(self) -> str:
        return self.html()

    def as_dict(self) -> dict[str, Any]:
        """Answer the comparison as plain values: its rows, and every run's report."""
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
        return {"schema": _SCHEMA, "rows": rows, "entries": entries}

    def to_json(self, path: str | Path) -> Path:
        """Write the comparison as JSON.

        Args:
            path: where to.
        """
        path = Path(path)
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def from_json(cls, path: str | Path) -> Comparison:
        """Read a comparison that `to_json` wrote.

        Args:
            path: the file.
        """
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values.get("schema") != _SCHEMA:
            raise ValueError(f"{path} has schema {values.get('schema')!r}, expected {_SCHEMA}")
        return comparison_table(
            [
                Entry(e["label"], e["seed"], Report.from_dict(e["report"]), e["seconds"])
                for e in values["entries"]
            ]
        )

    def html(self) -> str:
        """Answer the table and the pictures, side by side, as one page that needs no other file."""
        first = self.entries[0].report
        subtitle = f"{len(self.rows)} ways, {len(self.entries)} runs; {first.n:,} rows judged"
        notes = "".join(f'<p class="sub">{escape(note)}</p>' for note in [self.legend, *self.notes])
        shown = {
            f"{entry.label}, seed {entry.seed}": entry.report.figures()
            for entry in self.entries
            if entry.report.gallery is not None
        }
        sections = [
            f"<h2>{escape(title)}</h2>"
            + picture_cards(
                {name: figures[title] for name, figures in shown.items() if title in figures},
                captions=True,
            )
            for title in dict.fromkeys(title for figures in shown.values() for title in figures)
        ]
        return page(
            f"Comparison on {first.data}", subtitle, self._table() + notes + "".join(sections)
        )

    def to_html(self, path: str | Path) -> Path:
        """Write the table, and each run's pictures, as one page that needs no other file.

        Args:
            path: where to.
        """
        path = Path(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def _table(self) -> str:
        names = [escape(heading(name)) for name in self.metrics]
        head = "".join(f"<th>{name}</th>" for name in ["", *names, "seeds", "seconds"])
        body = []
        for row in self.rows:
            cells = "".join(
                f'<td class="{"best" if c.best else "na" if c.value is None else ""}">'
                f"{escape(c.text)}</td>"
                for c in (row.cells[name] for name in self.metrics)
            )
            body.append(
                f"<tr><td>{escape(row.label)}</td>{cells}"
                f"<td>{len(row.seeds)}</td><td>{row.seconds:.1f}</td></tr>"
            )
        rows = "\n".join(body)
        return f'<div class="scroll"><table class="compare"><tr>{head}</tr>\n{rows}</table></div>'


def comparison_table(entries: Sequence[Entry]) -> Comparison:
    """Put finished runs side by side.

    Metrics that apply to no run are left out. The best mean of each metric that has a direction is
    marked, if there is more than one row and all values are of the same kind.

    Args:
        entries: the runs; those that share a label are averaged over their seeds.

    Raises:
        ValueError: if there are no entries.

    Example:
        >>> table = comparison_table([Entry("normal", 0, report, 12.5)])   # doctest: +SKIP
        >>> print(table)                                                   # doctest: +SKIP
    """
    if not entries:
        raise ValueError("a comparison needs at least one entry, got none")
    labels = list(dict.fromkeys(entry.label for entry in entries))
    groups = {label: [e for e in entries if e.label == label] for label in labels}
    names = list(dict.fromkeys(r.name for e in entries for r in e.report if r.applicable))
    columns = {name: column_of(name, groups) for name in names}
    rows = [
        Row(
            label,
            tuple(e.seed for e in group),
            {name: columns[name][label] for name in names},
            statistics.fmean(e.seconds for e in group),
        )
        for label, group in groups.items()
    ]
    return Comparison(tuple(rows), tuple(entries))
