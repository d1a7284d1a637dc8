"""Pages in one file: inline style, embedded pictures, legible on a phone, light or dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from priory.evaluation.record import Record

_STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --ink: #1c1e21; --soft: #666b73;
  --line: #e3e4e6; --accent: #2a5db0; --best: #e8f0fc; }
@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --card: #1e2125; --ink: #e9eaec;
  --soft: #a0a6ae; --line: #33373d; --accent: #8db4f5; --best: #22314a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); line-height: 1.45;
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.sub, .note, footer { color: var(--soft); font-size: .85rem; }
.sub { margin: .2rem 0 1.2rem; } footer { margin-top: 2.5rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
th { font-weight: 600; font-size: .8rem; color: var(--soft); }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
td.value { font-weight: 600; } td.na { color: var(--soft); font-weight: 400; }
td.best { background: var(--best); color: var(--accent); font-weight: 700; }
td small { display: block; color: var(--soft); font-weight: 400; }
.note { display: block; max-width: 34rem; } .fold { display: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1rem; margin-top: 1.2rem; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .6rem; }
figcaption { color: #1c1e21; font-weight: 600; padding: .1rem .2rem .5rem; }
figure img { width: 100%; height: auto; display: block; }
@media (max-width: 40rem) { .records .wide { display: none; } .records .fold { display: inline; }
  th, td { padding: .5rem .6rem; } }
@media (max-width: 40rem) { .compare th:first-child, .compare td:first-child { position: sticky;
  left: 0; background: var(--card); } }
"""


def page(title: str, subtitle: str, body: str) -> str:
    """Answer a whole HTML page.

    Args:
        title: its heading, as text.
        subtitle: the line beneath, as text.
        body: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>\n{body}\n'
        "<footer>Made by Priory.</footer></main></body></html>\n"
    )


def records_table(records: Iterable[Record]) -> str:
    """Answer the records as an HTML table; on a narrow screen K, n and kind fold into the note."""
    rows = []
    for r in records:
        k = "" if r.particles is None else f"{r.particles:,}"
        n = f"{r.n:,}" if r.n else ""
        fold = ", ".join([r.kind, *([f"K = {k}"] if k else []), *([f"n = {n}"] if n else [])])
        note = f'<span class="fold">{escape(fold)}. </span>{escape(r.note)}'
        style = "value" if r.applicable else "value na"
        value = escape(r.text) + (f"<small>{escape(r.unit)}</small>" if r.unit else "")
        rows.append(
            f'<tr><td>{escape(r.title)}<span class="note">{note}</span></td>'
            f'<td class="{style}">{value}</td><td class="wide">{k}</td><td class="wide">{n}</td>'
            f'<td class="wide">{escape(r.kind)}</td></tr>'
        )
    head = (
        '<tr><th>metric</th><th>value ± se</th><th class="wide">K</th><th class="wide">n</th>'
        '<th class="wide">kind</th></tr>'
    )
    body = "\n".join(rows)
    return f'<div class="scroll"><table class="records">{head}\n{body}</table></div>'


def picture_cards(figures: Mapping[str, Any], captions: bool = False) -> str:
    """Answer figures as embedded PNG pictures.

    Args:
        figures: matplotlib figures by title.
        captions: whether to write the title above each.
    """
    cards = "\n".join(
        f"<figure>{f'<figcaption>{escape(title)}</figcaption>' if captions else ''}"
        f'<img alt="{escape(title)}" src="data:image/png;base64,{_png(figure)}"></figure>'
        for title, figure in figures.items()
    )
    return f'<div class="cards">{cards}</div>' if cards else ""


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", pad_inches=0.08)
    return base64.b64encode(buffer.getvalue()).decode()
