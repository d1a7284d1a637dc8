"""A pair's report: its records as text, as JSON, and as a page with pictures."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from priory.evaluation.explorer import section as explorer
from priory.evaluation.explorer.section import Held
from priory.evaluation.record import Record
from priory.evaluation.report.gallery import FIRST, PLACES, Gallery, draw
from priory.evaluation.report.groups import (
    ANCHOR_TITLES,
    HEADINGS,
    Line,
    absent,
    grouped,
    heading,
)
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
from priory.evaluation.report.text import align, collect, interval, interval_text
from priory.evaluation.sample_sets import Anchor
from priory.evaluation.table import ANCHORS
from priory.lookup import suggestion

_SCHEMA = 1
_WIDTH = 100  # of the text
_TILES = 3  # numbers that a page shows large


@dataclass(frozen=True)
class Report(Document):
    """What an evaluation found.

    Args:
        records: one per metric and anchor.
        pair: name of the pair.
        data: name of the data.
        split: which rows were judged; empty if the data have no splits.
        n: how many.
        seed: seed of all draws.
        seconds: how long it took.
        digest: of the judged rows, by which runs prove that they were judged on the same.
        source: what names the rows before they were prepared: standardised or not, they are the
            same.
        gallery: what its pictures show, if they were asked for.
        run: the run, of which a page has the explorer while the run is held.

    Example:
        >>> report["nll"].unit, report["nll"].n
        ('nats', 12)
    """

    records: tuple[Record, ...]
    pair: str = "pair"
    data: str = "data"
    split: str = "test"
    n: int = 0
    seed: int = 0
    seconds: float = 0.0
    digest: str = ""
    source: str = ""
    gallery: Gallery | None = field(default=None, repr=False, compare=False)
    run: Held | None = field(default=None, repr=False, compare=False)

    def __getitem__(self, name: str) -> Record:
        for record in self.records:
            if record.name == name:
                return record
        names = [record.name for record in self.records]
        hint = suggestion(name, names)
        raise KeyError(f"no metric {name!r} in the report{hint} (it has {', '.join(names)})")

    def __contains__(self, name: object) -> bool:
        return any(record.name == name for record in self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def same_rows(self, other: Report) -> bool:
        """Return whether another report may be of the same rows: nothing shows that it is not.

        Args:
            other: the other report.
        """
        if not (self.digest and other.digest) or self.digest == other.digest:
            return True
        return bool(self.source) and self.source == other.source

    @property
    def title(self) -> str:
        """The pair and the data, on one line."""
        return f"{self.pair} on {self.data}"

    @property
    def subtitle(self) -> str:
        """The circumstances, on one line."""
        split = f"{self.split} split, " if self.split else ""
        return f"{split}{self.n:,} rows, seed {self.seed}, {self.seconds:.1f} s"

    def __str__(self) -> str:
        return "\n".join([self.title, self.subtitle, "", *_text(self)])

    def figures(self) -> dict[str, Any]:
        """Draw the report's pictures, as matplotlib figures by title."""
        return draw(self.gallery) if self.gallery is not None else {}

    def html(self) -> str:
        """Return the report as one page that needs no other file."""
        return page(self.title, self.subtitle, _body(self), "report", self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, without its pictures."""
        facts = ("pair", "data", "split", "n", "seed", "seconds", "digest", "source")
        records = [record.as_dict() for record in self.records]
        return {"schema": _SCHEMA, **{f: getattr(self, f) for f in facts}, "records": records}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """Return the report that `as_dict` wrote.

        Args:
            values: plain values.

        Raises:
            ValueError: if they are of another schema.
        """
        if values.get("schema") != _SCHEMA:
            raise ValueError(f"report has schema {values.get('schema')!r}, expected {_SCHEMA}")
        facts = {k: v for k, v in values.items() if k not in ("schema", "records")}
        return cls(records=tuple(Record.from_dict(r) for r in values["records"]), **facts)

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read a report that `to_json` wrote.

        Args:
            path: the file.
        """
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _text(report: Report) -> list[str]:
    """Return the lines of a report's table, its notes, and what does not apply, by reason."""
    groups = grouped(report)
    lines = [line for members in groups.values() for line in members]
    anchors = _anchors(lines)
    head = ["metric", "value ± se", "unit", *(ANCHOR_TITLES[a] for a in anchors), "obtained"]
    right = (1, *range(3, len(head) - 1))
    table = align([head, *(_text_row(line, anchors, report.n) for line in lines)], right)
    rule = "-" * max(map(len, table))
    text = [table[0], rule] if lines else []
    rows = iter(table[1:])
    warned: set[str] = set()
    for group, members in groups.items():
        text += [group]
        for line in members:
            new = [warning for warning in line.record.warnings if warning not in warned]
            text += [next(rows), *_indented(f"! {warning}" for warning in new)]
            warned.update(new)
    notes = collect((line.record.note, line.record.title) for line in lines if line.record.note)
    texts = [f"{', '.join(titles)}: {note}" for note, titles in notes.items()]
    texts += _explained(anchors)
    text += ["", "notes", *_indented(texts)] if texts else []
    reasons = [f"{', '.join(titles)}: {reason}" for reason, titles in absent(report).items()]
    text += ["", "not applicable", *_indented(reasons)] if reasons else []
    return text[1:] if text and not text[0] else text


def _text_row(line: Line, anchors: list[Anchor], n: int) -> list[str]:
    r = line.record
    found = [line.anchors.get(a) for a in anchors]
    beside = ["" if other is None else other.text.partition(" ±")[0] for other in found]
    return [f"  {heading(r.name)}", r.text, r.unit, *beside, line.facts(n)]


def _indented(texts: Iterable[str]) -> list[str]:
    return [
        textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="      ")
        for text in texts
    ]


def _anchors(lines: list[Line]) -> list[Anchor]:
    return [a for a in ANCHOR_TITLES if any(a in line.anchors for line in lines)]


def _explained(anchors: list[Anchor]) -> list[str]:
    return [f"{ANCHOR_TITLES[a]}: {ANCHORS[a].removeprefix('anchor: ')}" for a in anchors]


def _body(report: Report) -> str:
    """Return the body of a report's page: what matters, then the groups with their pictures."""
    figures = report.figures()
    groups = grouped(report)
    first = picture_cards({title: figures[title] for title in FIRST if title in figures})
    parts = [_tiles(groups, report.n), first, _warnings(groups), _absent(report)]
    for group in [*HEADINGS, "training"]:
        rest = {t: f for t, f in figures.items() if t not in FIRST}
        shown = {t: f for t, f in rest.items() if PLACES.get(t, "training") == group}
        lines = groups.get(group, [])
        body = (_table(lines, report.n) if lines else "") + picture_cards(shown)
        parts += [section(group, body, HEADINGS.get(group, ""))] if body else []
    return "".join([*parts, explorer.section(report.run)])


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
    texts = [_interval(r, "95% interval "), line.facts(n)]
    texts += [f"{ANCHOR_TITLES[a]} {x.text}" for a, x in line.anchors.items() if x.applicable]
    small = f" <small>{escape(r.unit)}</small>" if r.unit else ""
    value = r.text.partition(" ±")[0]
    facts = "".join(f"<span>{escape(text)}</span>" for text in texts if text)
    return f"<li>{escape(heading(r.name))}<b>{escape(value)}{small}</b>{facts}</li>"


def _warnings(groups: Mapping[str, list[Line]]) -> str:
    records = [line.record for lines in groups.values() for line in lines]
    found = collect((warning, r.title) for r in records for warning in r.warnings)
    return warning_list((", ".join(titles), warning) for warning, titles in found.items())


def _absent(report: Report) -> str:
    reasons = absent(report)
    count = sum(map(len, reasons.values()))
    if not count:
        return ""
    does = "metric does" if count == 1 else "metrics do"
    items = [(", ".join(titles), reason) for reason, titles in reasons.items()]
    return folded(f"{count} {does} not apply here", terms(items))


def _table(lines: list[Line], n: int) -> str:
    anchors = _anchors(lines)
    titles = ["metric", "value ± se, 95% interval", *(ANCHOR_TITLES[a] for a in anchors)]
    table = records_table(titles, (_row(line, anchors, n) for line in lines))
    explained = "; ".join(_explained(anchors))
    return table + (f'<p class="sub">{escape(explained)}.</p>\n' if explained else "")


def _row(line: Line, anchors: list[Anchor], n: int) -> str:
    r = line.record
    facts = "; ".join(text for text in (line.facts(n), r.note) if text)
    notes = "".join(f'<span class="note">{escape(t)}</span>' for t in (line.summary, facts) if t)
    warnings = "".join(f'<span class="warning">⚠ {escape(text)}</span>' for text in r.warnings)
    unit = f' <span class="unit">{escape(r.unit)}</span>' if r.unit else ""
    ends = _interval(r)
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


def _interval(record: Record, prefix: str = "") -> str:
    ends = interval(record.value, record.se)
    return "" if ends is None else prefix + interval_text(*ends)
