"""A comparison as a page: what is best and by how much, then each group with its pictures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from priory.evaluation.report.cells import Cell
from priory.evaluation.report.comparison_text import (
    PAIRED,
    anchor_rows,
    anchor_text,
    difference_text,
    p_text,
)
from priory.evaluation.report.gallery import PLACES
from priory.evaluation.report.lines import HEADINGS, group_of, heading, interval_text
from priory.evaluation.report.page import folded, page, picture_cards, section, terms, warning_list
from priory.evaluation.report.paired import Difference
from priory.evaluation.table import METRICS

if TYPE_CHECKING:
    from priory.evaluation.report.comparison import Comparison

_WIDE = 6  # metrics in a table: what a sheet of paper holds
_TOLD = ("other - best", "95% interval", "p", "the other is")


def comparison_html(table: Comparison) -> str:
    """Return a comparison as a whole page.

    Args:
        table: the comparison.
    """
    first = table.entries[0].report
    ways, runs = len(table.rows), len(table.entries)
    subtitle = (
        f"{ways} {'way' if ways == 1 else 'ways'}, {runs} {'run' if runs == 1 else 'runs'}; "
        f"{first.n:,} rows judged, seed {first.seed}"
    )
    shown = {
        f"{entry.label}, seed {entry.seed}": entry.report.figures()
        for entry in table.entries
        if entry.report.gallery is not None
    }
    parts = [_headline(table), f'<p class="sub">{escape(table.legend)}.</p>\n']
    parts += [warning_list(table.warnings), _notes(table)]
    told = False  # once: how many runs, how long they took, how to read differences
    for group in [*HEADINGS, "training"]:
        names = [name for name in table.metrics if group_of(name) == group]
        body = "".join(
            _table(table, names[i : i + _WIDE], with_runs=not told and i == 0)
            for i in range(0, len(names), _WIDE)
        )
        body += _differences([d for d in table.differences if d.metric in names], table, told)
        told = told or bool(names)
        titles = dict.fromkeys(title for figures in shown.values() for title in figures)
        for title in (t for t in titles if PLACES.get(t, "training") == group):
            found = {name: figures[title] for name, figures in shown.items() if title in figures}
            body += f"<h3>{escape(title)}</h3>" + picture_cards(found, captions=True)
        parts += [section(group, body, HEADINGS.get(group, ""))] if body else []
    return page(table.title, subtitle, "".join(parts), "comparison", table.as_dict())


def _headline(table: Comparison) -> str:
    """Return a sentence on what is best by the first metric that separates labels."""
    for name in table.metrics:
        best = next((row for row in table.rows if row.cells[name].best), None)
        if best is None:
            continue
        title = f"<b>{escape(best.label)}</b> has the best {escape(name.replace('_', ' '))}"
        value = f" ({escape(best.cells[name].text)})"
        own = [d for d in table.differences if d.metric == name and d.value is not None]
        close = [d.label for d in own if d.verdict == "not distinguishable"]
        if not own:
            told = "."
        elif not close:
            told = "; every other is worse by more than chance explains."
        else:
            told = f"; not distinguishable from it: {escape(', '.join(close))}."
        return f"<p>{title}{value}{told}</p>\n"
    return ""


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
    for title, cells in anchor_rows(table).items():
        if not any(name in cells for name in names):
            continue
        texts = [anchor_text(cells.get(name)) for name in names] + [""] * more
        data = "".join(f"<td>{escape(text)}</td>" for text in texts)
        rows += f'<tr><th scope="row">{escape(title)}</th>{data}</tr>'
    return f"<tfoot>{rows}</tfoot>" if rows else ""


def _differences(found: list[Difference], table: Comparison, told: bool) -> str:
    known = [d for d in found if d.value is not None]
    if not known:
        return ""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in ("", *_TOLD))
    rows = "\n".join(_difference(d) for d in known)
    body = (
        f'<div class="scroll"><table class="records"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n"
        f'<p class="sub">{escape(table.paired_legend)}.</p>\n'
    )
    return folded(PAIRED, body, opened=not told)


def _difference(d: Difference) -> str:
    ends = "" if d.low is None or d.high is None else interval_text(d.low, d.high)
    texts = (difference_text(d), ends, p_text(d.adjusted), d.verdict)
    style = d.verdict if d.verdict in ("better", "worse") else "soft"
    cells = "".join(
        f'<td class="{style if text == d.verdict else ""}" data-title="{escape(title)}">'
        f"{escape(text)}</td>"
        for title, text in zip(_TOLD, texts, strict=True)
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
