"""A comparison as text: its table with the anchors beneath, and the paired differences."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from priory.evaluation.record import format_value
from priory.evaluation.report.cells import Cell, Row
from priory.evaluation.report.lines import ANCHOR_TITLES, heading, interval_text
from priory.evaluation.report.paired import Difference
from priory.evaluation.report.tables import WIDTH, align, stack_tables

if TYPE_CHECKING:
    from priory.evaluation.report.comparison import Comparison

PAIRED = "Differences from the best (paired, same test rows)"


def comparison_text(table: Comparison) -> str:
    """Return a comparison as lines of text.

    Args:
        table: the comparison.
    """
    anchors = anchor_rows(table)
    labels = ["", *(row.label for row in table.rows), *(f"({title})" for title in anchors)]
    columns = [
        [heading(name) + " ", *(row.cells[name].starred for row in table.rows)]
        + [anchor_text(cells.get(name)) + " " for cells in anchors.values()]
        for name in table.metrics
    ]
    if any(row.seconds is not None for row in table.rows):
        times = ("" if row.seconds is None else f"{row.seconds:.1f}" for row in table.rows)
        columns.append(["seconds", *times, *("" for _ in anchors)])
    lines = [*stack_tables(labels, columns), _wrapped(table.legend)]
    lines += [_wrapped(f"! {name}, {text}") for name, text in table.warnings]
    known = [d for d in table.differences if d.value is not None and d.metric in table.metrics]
    if known:
        head = ("metric", "best", "other", "other - best", "95% interval", "p", "the other is")
        rows = align([head, *_told(known)], right=(3, 5))
        rule = "-" * max(map(len, rows))
        lines += ["", PAIRED, rows[0], rule, *rows[1:], "", _wrapped(table.paired_legend)]
    return "\n".join([*lines, *map(_wrapped, table.notes)])


def anchor_rows(table: Comparison) -> dict[str, dict[str, Cell]]:
    """Return what the metrics say of real data and of the baseline, by the anchor's title.

    Args:
        table: the comparison.
    """
    found: dict[str, dict[str, Cell]] = {}
    for anchor, title in ANCHOR_TITLES.items():
        cells = {name: _anchor(table.rows, f"{name}_{anchor}") for name in table.metrics}
        known = {name: cell for name, cell in cells.items() if cell is not None}
        found |= {title: known} if known else {}
    return found


def p_text(p: float | None) -> str:
    """Write a p-value.

    Args:
        p: the value, if there is one.

    Example:
        >>> p_text(0.0441), p_text(1e-9)
        ('0.044', '< 0.001')
    """
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def difference_text(found: Difference) -> str:
    """Write a difference with its standard error and its sign.

    Args:
        found: a difference that has a value.
    """
    value = found.value or 0.0
    return ("+" if value > 0 else "") + format_value(value, found.se)


def _anchor(rows: tuple[Row, ...], name: str) -> Cell | None:
    cells = (row.cells.get(name) for row in rows)
    return next((cell for cell in cells if cell is not None and cell.value is not None), None)


def anchor_text(cell: Cell | None) -> str:
    """Write an anchor with its standard error over the data: the seeds do not change it.

    Args:
        cell: the anchor's, if there is one.
    """
    return "" if cell is None or cell.value is None else format_value(cell.value, cell.se)


def _told(known: list[Difference]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    last = ""
    for d in known:
        first = (heading(d.metric), d.against) if d.metric != last else ("", "")
        last = d.metric
        ends = "" if d.low is None or d.high is None else interval_text(d.low, d.high)
        rows.append((*first, d.label, difference_text(d), ends, p_text(d.adjusted), d.verdict))
    return rows


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")
