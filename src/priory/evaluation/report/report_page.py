"""A report as a page: first what matters, then the metrics in groups with their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from priory.evaluation.record import Record
from priory.evaluation.report.gallery import PLACES
from priory.evaluation.report.lines import (
    ANCHOR_TITLES,
    HEADINGS,
    Line,
    absent,
    grouped,
    heading,
    interval,
    interval_text,
)
from priory.evaluation.report.page import folded, picture_cards, section, terms, warning_list
from priory.evaluation.sample_sets import Anchor
from priory.evaluation.table import ANCHORS

_TILES = 3


def report_body(records: Iterable[Record], figures: Mapping[str, Any], n: int) -> str:
    """Return the body of a report's page as HTML.

    Args:
        records: the report's.
        figures: its pictures by title.
        n: how many rows it judged.
    """
    found = list(records)
    groups = grouped(found)
    parts = [_tiles(groups, n), _warnings(groups), _absent(found)]
    for group in [*HEADINGS, "training"]:
        shown = {t: f for t, f in figures.items() if PLACES.get(t, "training") == group}
        lines = groups.get(group, [])
        body = (_table(lines, n) if lines else "") + picture_cards(shown)
        parts += [section(group, body, HEADINGS.get(group, ""))] if body else []
    return "".join(parts)


def _tiles(groups: Mapping[str, list[Line]], n: int) -> str:
    """Return the first number of the groups that say most, large."""
    order = ["likelihood", "samples", "latents", *HEADINGS]
    first = [groups[group][0] for group in dict.fromkeys(order) if groups.get(group)]
    if "nll" in {line.record.name for line in groups.get("likelihood", [])}:
        first[0] = next(x for x in groups["likelihood"] if x.record.name == "nll")
    tiles = "".join(_tile(line, n) for line in first[:_TILES])
    return f'<ul class="tiles">{tiles}</ul>\n' if tiles else ""


def _tile(line: Line, n: int) -> str:
    r = line.record
    said = [_interval(r), line.facts(n)]
    said += [f"{ANCHOR_TITLES[a]} {x.text}" for a, x in line.anchors.items() if x.applicable]
    small = f" <small>{escape(r.unit)}</small>" if r.unit else ""
    value = r.text.partition(" ±")[0]
    facts = "".join(f"<span>{escape(text)}</span>" for text in said if text)
    return f"<li>{escape(heading(r.name))}<b>{escape(value)}{small}</b>{facts}</li>"


def _warnings(groups: Mapping[str, list[Line]]) -> str:
    told: dict[str, list[str]] = {}
    for record in (line.record for lines in groups.values() for line in lines):
        for warning in record.warnings:
            told.setdefault(warning, []).append(record.title)
    return warning_list((", ".join(titles), warning) for warning, titles in told.items())


def _absent(records: list[Record]) -> str:
    reasons = absent(records)
    count = sum(map(len, reasons.values()))
    if not count:
        return ""
    does = "metric does" if count == 1 else "metrics do"
    told = [(", ".join(titles), reason) for reason, titles in reasons.items()]
    return folded(f"{count} {does} not apply here", terms(told))


def _table(lines: list[Line], n: int) -> str:
    anchors = [a for a in ANCHOR_TITLES if any(a in line.anchors for line in lines)]
    titles = ["metric", "value ± se, 95% interval", *(ANCHOR_TITLES[a] for a in anchors)]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    rows = "\n".join(_row(line, anchors, n) for line in lines)
    return (
        f'<div class="scroll"><table class="records"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n{_explained(anchors)}"
    )


def _explained(anchors: list[Anchor]) -> str:
    told = [f"{ANCHOR_TITLES[a]}: {ANCHORS[a].removeprefix('anchor: ')}" for a in anchors]
    return f'<p class="sub">{escape("; ".join(told))}.</p>\n' if told else ""


def _row(line: Line, anchors: list[Anchor], n: int) -> str:
    r = line.record
    facts = "; ".join(text for text in (line.facts(n), r.note) if text)
    notes = "".join(f'<span class="note">{escape(t)}</span>' for t in (line.summary, facts) if t)
    warnings = "".join(f'<span class="warning">⚠ {escape(text)}</span>' for text in r.warnings)
    unit = f' <span class="unit">{escape(r.unit)}</span>' if r.unit else ""
    ends = _interval(r, "")
    small = f"<small>{escape(ends)}</small>" if ends else ""
    cells = [
        f'<td class="value" data-title="value, 95%"><span>{escape(r.text)}{unit}{small}</span></td>'
    ]
    for anchor in anchors:
        other = line.anchors.get(anchor)
        cells.append(_cell(ANCHOR_TITLES[anchor], "" if other is None else other.text))
    name = f"<b>{escape(heading(r.name))}</b>{notes}{warnings}"
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cell(title: str, text: str) -> str:
    style = "soft" if text else "soft empty"
    return f'<td class="{style}" data-title="{escape(title)}">{escape(text)}</td>'


def _interval(record: Record, prefix: str = "95% interval ") -> str:
    ends = interval(record.value, record.se)
    return "" if ends is None else prefix + interval_text(*ends)
