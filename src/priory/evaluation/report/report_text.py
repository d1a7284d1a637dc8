"""A report as text: the metrics in groups, their anchors beside them, doubts beneath them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from priory.evaluation.record import Record
from priory.evaluation.report.lines import (
    ANCHOR_TITLES,
    Line,
    absent,
    grouped,
    heading,
)
from priory.evaluation.report.tables import align
from priory.evaluation.sample_sets import Anchor
from priory.evaluation.table import ANCHORS

_WIDTH = 100


def records_text(records: Iterable[Record], n: int) -> list[str]:
    """Return the lines of a report's table, its notes, and what does not apply, by reason.

    Args:
        records: the report's.
        n: how many rows it judged.
    """
    found = list(records)
    groups = grouped(found)
    lines = [line for group in groups.values() for line in group]
    anchors = [a for a in ANCHOR_TITLES if any(a in line.anchors for line in lines)]
    head = ["metric", "value ± se", "unit", *(ANCHOR_TITLES[a] for a in anchors), "obtained"]
    table = align([head, *(_row(line, anchors, n) for line in lines)], right=(1, *_anchored(head)))
    rule = "-" * max(map(len, table))
    text = [table[0], rule] if lines else []
    rows = iter(table[1:])
    warned: set[str] = set()
    for group, members in groups.items():
        text += [group]
        for line in members:
            new = [warning for warning in line.record.warnings if warning not in warned]
            text += [next(rows), *_wrapped(f"! {warning}" for warning in new)]
            warned.update(new)
    notes = _notes(line.record for line in lines)
    notes += [f"{ANCHOR_TITLES[a]}: {ANCHORS[a].removeprefix('anchor: ')}" for a in anchors]
    if notes:
        text += ["", "notes", *_wrapped(notes)]
    reasons = absent(found)
    if reasons:
        told = (f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items())
        text += ["", "not applicable", *_wrapped(told)]
    return text[1:] if text and not text[0] else text


def _row(line: Line, anchors: list[Anchor], n: int) -> list[str]:
    r = line.record
    found = [line.anchors.get(a) for a in anchors]
    beside = ["" if other is None else other.text.partition(" ±")[0] for other in found]
    return [f"  {heading(r.name)}", r.text, r.unit, *beside, line.facts(n)]


def _anchored(head: list[str]) -> range:
    return range(3, len(head) - 1)


def _notes(records: Iterable[Record]) -> list[str]:
    """Return each note once, after the titles of all metrics that it belongs to."""
    titles: dict[str, list[str]] = {}
    for record in records:
        if record.note:
            titles.setdefault(record.note, []).append(record.title)
    return [f"{', '.join(names)}: {note}" for note, names in titles.items()]


def _wrapped(texts: Iterable[str]) -> list[str]:
    return [
        textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="      ")
        for text in texts
    ]
