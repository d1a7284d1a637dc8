"""A pair's report: its records as a table, as JSON, and as a page with pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from priory.evaluation.record import Record
from priory.evaluation.report.gallery import Gallery, draw
from priory.evaluation.report.page import page
from priory.evaluation.report.report_page import report_body
from priory.evaluation.report.report_text import records_text
from priory.evaluation.report.written import Written
from priory.lookup import suggestion

_SCHEMA = 1


@dataclass(frozen=True)
class Report(Written):
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
        return "\n".join([self.title, self.subtitle, "", *records_text(self.records, self.n)])

    def figures(self) -> dict[str, Any]:
        """Draw the report's pictures, as matplotlib figures by title."""
        return draw(self.gallery) if self.gallery is not None else {}

    def html(self) -> str:
        """Return the report as one page that needs no other file."""
        body = report_body(self.records, self.figures(), self.n)
        return page(self.title, self.subtitle, body, "report", self.as_dict())

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
        records = [{**r, "warnings": tuple(r.get("warnings", ()))} for r in values["records"]]
        return cls(records=tuple(Record(**record) for record in records), **facts)

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read a report that `to_json` wrote.

        Args:
            path: the file.
        """
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
