"""Several runs side by side: one row per label, mean and spread over seeds, the best marked."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from priory.evaluation.record import format_value
from priory.evaluation.remedies import Doubt
from priory.evaluation.report import charts
from priory.evaluation.report.cells import Cell, Entry, Row, column_of
from priory.evaluation.report.gallery import PLACES
from priory.evaluation.report.groups import (
    ANCHOR_TITLES,
    HEADINGS,
    group_of,
    heading,
    is_anchor,
)
from priory.evaluation.report.intervals import intervals
from priory.evaluation.report.page import (
    Document,
    folded,
    page,
    picture_cards,
    records_table,
    section,
    terms,
    warning_list,
)
from priory.evaluation.report.paired import (
    LEVEL,
    Difference,
    mean_interval,
    paired_differences,
)
from priory.evaluation.report.report import Report
from priory.evaluation.report.text import WIDTH, align, collect, interval_text, stack_tables
from priory.evaluation.table import METRICS

_SCHEMA = 1
_FIRST = ("Samples",)  # shown before all numbers
_BYTES = 1_800_000  # of all pictures of a page
_WIDE = 6  # metrics in a table of a page: what a sheet of paper holds
_PAIRED = "Differences from the best (paired, same test rows)"
_FACTS = ("other - best", "95% interval", "p", "the other is")


@dataclass(frozen=True)
class Comparison(Document):
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
    def warnings(self) -> list[tuple[str, Doubt]]:
        """Metrics whose values are to be doubted, with whose and why."""
        found: list[tuple[Doubt, str]] = []
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
                first = doubts[0][1]
                found.append((Doubt(what + first, first.remedy), name.replace("_", " ")))
        return [(", ".join(names), text) for text, names in collect(found).items()]

    @property
    def notes(self) -> list[str]:
        """The reasons of the cells without a value, and of differences that are not had, once."""
        found = collect(
            ((name, cell.note), row.label)
            for row in self.rows
            for name, cell in row.cells.items()
            if cell.value is None and not is_anchor(name)
        )
        lines = [
            f"{name.replace('_', ' ')}: n/a for {', '.join(labels)}: {note}"
            for (name, note), labels in found.items()
        ]
        reasons = collect(
            (d.note, d.metric.replace("_", " "))
            for d in self.differences
            if d.value is None and d.metric in self.metrics
        )
        return lines + [
            f"no paired differences of {', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in reasons.items()
        ]

    def __str__(self) -> str:
        return _text(self)

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
        return _page(self)


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
            runs = [
                f"{e.label} on {r.n:,} rows of {r.data}{r.split and ', ' + r.split}"
                for e, r in ((first, first.report), (entry, entry.report))
            ]
            raise ValueError(
                f"the runs were judged on different rows: {' and '.join(runs)}; judge all on the "
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


def _text(table: Comparison) -> str:
    """Return a comparison as text: its table with the anchors beneath, and the differences."""
    anchors = _anchor_rows(table)
    labels = ["", *(row.label for row in table.rows), *(f"({title})" for title in anchors)]
    columns = [
        [heading(name) + " ", *(row.cells[name].starred for row in table.rows)]
        + [_anchor_text(cells.get(name)) + " " for cells in anchors.values()]
        for name in table.metrics
    ]
    if any(row.seconds is not None for row in table.rows):
        times = ("" if row.seconds is None else f"{row.seconds:.1f}" for row in table.rows)
        columns.append(["seconds", *times, *("" for _ in anchors)])
    lines = [*stack_tables(labels, columns), _wrapped(table.legend)]
    lines += [_wrapped(f"! {name}, {text}") for name, text in table.warnings]
    known = [d for d in table.differences if d.value is not None and d.metric in table.metrics]
    if known:
        head = ("metric", "best", "other", *_FACTS)
        rows = align([head, *_difference_rows(known)], right=(3, 5))
        rule = "-" * max(map(len, rows))
        lines += ["", _PAIRED, rows[0], rule, *rows[1:], "", _wrapped(table.paired_legend)]
    return "\n".join([*lines, *map(_wrapped, table.notes)])


def _anchor_rows(table: Comparison) -> dict[str, dict[str, Cell]]:
    """Return what the metrics say of real data and of the baseline, by the anchor's title."""
    found: dict[str, dict[str, Cell]] = {}
    for anchor, title in ANCHOR_TITLES.items():
        cells = {name: _anchor(table.rows, f"{name}_{anchor}") for name in table.metrics}
        known = {name: cell for name, cell in cells.items() if cell is not None}
        found |= {title: known} if known else {}
    return found


def _anchor(rows: tuple[Row, ...], name: str) -> Cell | None:
    cells = (row.cells.get(name) for row in rows)
    return next((cell for cell in cells if cell is not None and cell.value is not None), None)


def _anchor_text(cell: Cell | None) -> str:
    """Return an anchor with its standard error over the data: the seeds do not change it."""
    return "" if cell is None or cell.value is None else format_value(cell.value, cell.se)


def _difference_rows(known: list[Difference]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    last = ""
    for d in known:
        first = (heading(d.metric), d.against) if d.metric != last else ("", "")
        last = d.metric
        rows.append((*first, d.label, *_facts(d)))
    return rows


def _facts(d: Difference) -> tuple[str, str, str, str]:
    """Return a difference's value, interval, p-value and verdict as texts."""
    value = d.value or 0.0
    ends = "" if d.low is None or d.high is None else interval_text(d.low, d.high)
    p = "" if d.adjusted is None else "< 0.001" if d.adjusted < 0.001 else f"{d.adjusted:.2g}"
    return ("+" if value > 0 else "") + format_value(value, d.se), ends, p, d.verdict


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")


def _page(table: Comparison) -> str:
    """Return a page: samples, the main figure and what to doubt; then each group's numbers."""
    first = table.entries[0].report
    labels, runs = len(table.rows), len(table.entries)
    subtitle = (
        f"{labels} {'setting' if labels == 1 else 'settings'}, "
        f"{runs} {'run' if runs == 1 else 'runs'}; {first.n:,} rows judged, seed {first.seed}"
    )
    pictures = _Pictures(table)
    parts = [_headline(table), pictures.of(_FIRST), picture_cards(_main_chart(table), style="wide")]
    parts += [warning_list(table.warnings), _notes(table)]
    legend = table.legend.replace("* the best", "the best is coloured")
    begun = False  # once: how many runs, how long they took, how to read numbers
    for group in [*HEADINGS, "training"]:
        names = [name for name in table.metrics if group_of(name) == group]
        body = "".join(
            _table(table, names[i : i + _WIDE], with_runs=not begun and i == 0)
            for i in range(0, len(names), _WIDE)
        )
        body += f'<p class="sub">{escape(legend)}.</p>\n' if names and not begun else ""
        body += _differences(table, names)
        begun = begun or bool(names)
        body += pictures.of(t for t in pictures.titles if PLACES.get(t, "training") == group)
        body += picture_cards(_plane(table)) if group == "latents" else ""
        parts += [section(group, body, HEADINGS.get(group, ""))] if body else []
    parts.append(pictures.missing)
    return page(table.title, subtitle, "".join(parts), "comparison", table.as_dict())


class _Pictures:
    """The pictures of a comparison's runs, side by side, as many as a page can bear.

    Args:
        table: the comparison; the first seed of each label that has pictures is shown.
    """

    def __init__(self, table: Comparison) -> None:
        shown: dict[str, tuple[str, Report]] = {}
        for entry in table.entries:
            if entry.report.gallery is not None:
                title = f"{entry.label}, seed {entry.seed}"
                shown.setdefault(entry.label, (title, entry.report))
        self._shown = {title: report.figures() for title, report in shown.values()}
        found = (title for figures in self._shown.values() for title in figures)
        self.titles = [title for title in dict.fromkeys(found) if title not in _FIRST]
        self._left = _BYTES
        self._missing: list[str] = []

    def of(self, titles: Iterable[str]) -> str:
        """Return the cards of pictures of these titles, under a heading each."""
        body = ""
        for title in titles:
            found = {name: f[title] for name, f in self._shown.items() if title in f}
            cards = picture_cards(found, style="many") if found and self._left > 0 else ""
            self._left -= len(cards)
            if self._left < 0 and cards:
                cards = ""
            self._missing += [title] if found and not cards else []
            body += f"<h3>{escape(title)}</h3>{cards}" if cards else ""
        return body

    @property
    def missing(self) -> str:
        """What was left out, so that the page stays small enough to be sent."""
        if not self._missing:
            return ""
        names = ", ".join(title.lower() for title in self._missing)
        text = f"Left out, for the size of the page: {names}. Each run's own report has them."
        return f'<p class="sub">{escape(text)}</p>\n'


def _main_chart(table: Comparison) -> dict[str, Any]:
    """Return the chart of the main figure, the best label above."""
    name = _main(table)
    if not name:
        return {}
    groups = {row.label: [e for e in table.entries if e.label == row.label] for row in table.rows}
    rows = [
        (label, [e.report[name].value or 0.0 for e in group], mean_interval(group, name))
        for label, group in groups.items()
        if all(name in e.report and e.report[name].applicable for e in group)
    ]
    better = METRICS[name].better if name in METRICS else None
    if better is not None:
        rows.sort(key=lambda row: statistics.fmean(row[1]), reverse=better == "higher")
    seeds = max(len(values) for _, values, _ in rows)
    note = "mean and its 95% interval, of new rows"
    note += (
        " and new seeds; a dot is a seed; paired differences are sharper"
        if seeds > 1
        else " alone: each has one seed"
    )
    unit = next(e.report[name].unit for e in table.entries if name in e.report)
    cells = ((title, found.get(name)) for title, found in _anchor_rows(table).items())
    anchors = [(title, c.value) for title, c in cells if c is not None and c.value is not None]
    return {heading(name): intervals(rows, heading(name), unit=unit, anchors=anchors, note=note)}


def _main(table: Comparison) -> str:
    """Return the first metric that separates labels; else the first that any label has."""
    separating = (n for n in table.metrics if any(row.cells[n].best for row in table.rows))
    known = (n for n in table.metrics if any(row.cells[n].value is not None for row in table.rows))
    return next(separating, next(known, ""))


def _plane(table: Comparison) -> dict[str, Any]:
    """Return the information plane, where several codes tell of labels; empty where not."""
    if not {"kl", "label_information"} <= {*table.metrics}:
        return {}
    points = {}
    for row in table.rows:
        rate, information = (row.cells[n].value for n in ("kl", "label_information"))
        if rate is not None and information is not None:
            points[row.label] = (rate, information)
    return {"Information plane": charts.information_plane(points)} if len(points) > 1 else {}


def _headline(table: Comparison) -> str:
    """Return a sentence on what is best by the first metric that separates labels."""
    name = _main(table)
    best = next((row for row in table.rows if name and row.cells[name].best), None)
    if best is None:
        return ""
    title = f"<b>{escape(best.label)}</b> has the best {escape(name.replace('_', ' '))}"
    value = f" ({escape(best.cells[name].text)})"
    own = [d for d in table.differences if d.metric == name and d.value is not None]
    close = [d.label for d in own if d.verdict == "not distinguishable"]
    if not own:
        others = "."
    elif not close:
        others = "; every other is worse by more than chance explains."
    else:
        others = f"; not distinguishable from it: {escape(', '.join(close))}."
    return f"<p>{title}{value}{others}</p>\n"


def _notes(table: Comparison) -> str:
    notes = [note.partition(": ") for note in table.notes]
    if not notes:
        return ""
    return folded(
        f"{len(notes)} {'note' if len(notes) == 1 else 'notes'} on what is missing",
        terms((term, text) for term, _, text in notes),
    )


def _table(table: Comparison, names: list[str], with_runs: bool) -> str:
    head = [_head("", "ascending"), *(_head(heading(n), _first(n)) for n in names)]
    timed = with_runs and any(row.seconds is not None for row in table.rows)
    head += [_head("seeds", "descending")] if with_runs else []
    head += [_head("seconds", "ascending")] if timed else []
    body = []
    for row in table.rows:
        cells = [_cell(row.cells[name]) for name in names]
        cells += [_number(len(row.seeds), f"{len(row.seeds)}")] if with_runs else []
        text = "" if row.seconds is None else f"{row.seconds:.1f}"
        cells += [_number(row.seconds, text)] if timed else []
        label = escape(row.label)
        body.append(f'<tr><th scope="row" data-value="{label}">{label}</th>{"".join(cells)}</tr>')
    rows = "\n".join(body)
    return (
        f'<div class="scroll"><table class="compare sortable"><thead><tr>{"".join(head)}</tr>'
        f"</thead><tbody>{rows}</tbody>{_foot(table, names, with_runs + timed)}</table></div>\n"
    )


def _foot(table: Comparison, names: list[str], more: int) -> str:
    rows = ""
    for title, cells in _anchor_rows(table).items():
        if not any(name in cells for name in names):
            continue
        texts = [_anchor_text(cells.get(name)) for name in names] + [""] * more
        data = "".join(f"<td>{escape(text)}</td>" for text in texts)
        rows += f'<tr><th scope="row">{escape(title)}</th>{data}</tr>'
    return f"<tfoot>{rows}</tfoot>" if rows else ""


def _differences(table: Comparison, names: list[str]) -> str:
    known = [d for d in table.differences if d.metric in names and d.value is not None]
    if not known:
        return ""
    body = records_table(("", *_FACTS), map(_difference, known))
    return folded(_PAIRED, f'{body}<p class="sub">{escape(table.paired_legend)}.</p>\n')


def _difference(d: Difference) -> str:
    style = d.verdict if d.verdict in ("better", "worse") else "soft"
    cells = "".join(
        f'<td class="{style if text == d.verdict else ""}" data-title="{escape(title)}">'
        f"{escape(text)}</td>"
        for title, text in zip(_FACTS, _facts(d), strict=True)
    )
    who = f"<b>{escape(d.label)}</b> against {escape(d.against)}, by {escape(heading(d.metric))}"
    return f'<tr><th scope="row">{who}</th>{cells}</tr>'


def _head(text: str, first: str) -> str:
    return f'<th scope="col" data-first="{first}">{escape(text) or "&nbsp;"}</th>'


def _first(name: str) -> str:
    """Return the order that a first click sorts by: the best above."""
    better = METRICS[name].better if name in METRICS else None
    return "descending" if better == "higher" else "ascending"


def _cell(cell: Cell) -> str:
    style = "best" if cell.best else "soft" if cell.value is None else ""
    return _number(cell.value, cell.text, style)


def _number(value: Any, text: str, style: str = "") -> str:
    known = "" if value is None else f' data-value="{value!r}"'
    kind = f' class="{style}"' if style else ""
    return f"<td{kind}{known}>{escape(text)}</td>"
