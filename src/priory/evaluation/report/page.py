"""Pages in one file: style, script, pictures and numbers within, for any screen and for paper."""

from __future__ import annotations

import base64
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any


class Document(ABC):
    """Something that is shown as one page, and kept as plain values."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is about, on one line."""

    @abstractmethod
    def html(self) -> str:
        """Return it as one page that needs no other file."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, without its pictures."""

    def _repr_html_(self) -> str:
        return framed(self.html(), self.title)

    def to_html(self, path: str | Path) -> Path:
        """Write the page that needs no other file.

        Args:
            path: where to.
        """
        path = Path(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write the plain values as JSON, without the pictures.

        Args:
            path: where to.
        """
        path = Path(path)
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def page(title: str, subtitle: str, body: str, name: str, values: Mapping[str, Any]) -> str:
    """Return a whole HTML page.

    Args:
        title: its heading, as text.
        subtitle: the line beneath, as text.
        body: HTML.
        name: of the numbers: the id of the element that holds them, and the file's when saved.
        values: the numbers, as plain values.
    """
    # No text within may end the element: a "<" of JSON stands inside strings alone.
    text = json.dumps(values, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>\n{_file('style.css')}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>\n{body}\n'
        f'<footer>Made by Priory. <a class="numbers" download="{escape(name)}.json" hidden>'
        "Save the numbers as JSON</a></footer></main>\n"
        f'<script type="application/json" id="{escape(name)}">{text}</script>\n'
        f"<script>\n{_file('script.js')}</script></body></html>\n"
    )


def framed(html: str, title: str) -> str:
    """Return a page as a notebook shows it: in a frame, so that neither's styles reach the other.

    Args:
        html: the page.
        title: what it is, for screen readers.
    """
    fit = "this.style.height=this.contentDocument.documentElement.scrollHeight+4+'px'"
    return (
        f'<iframe title="{escape(title)}" srcdoc="{escape(html)}" onload="{escape(fit)}" '
        'style="width:100%;height:40rem;border:0"></iframe>'
    )


def section(title: str, body: str, summary: str = "") -> str:
    """Return a part of a page under a heading.

    Args:
        title: the heading, as text.
        body: HTML.
        summary: what the part is about, as text.
    """
    small = f"<small>{escape(summary)}</small>" if summary else ""
    return f"<section><h2>{escape(title)}{small}</h2>\n{body}</section>\n"


def picture_cards(figures: Mapping[str, Any], captions: bool = False) -> str:
    """Return figures as embedded PNG pictures.

    Args:
        figures: matplotlib figures by title.
        captions: whether to write the title above each.
    """
    cards = "\n".join(
        f"<figure>{f'<figcaption>{escape(title)}</figcaption>' if captions else ''}"
        f'<img alt="{escape(title)}" src="data:image/png;base64,{_png(figure)}"></figure>'
        for title, figure in figures.items()
    )
    style = "cards many" if captions else "cards"
    return f'<div class="{style}">{cards}</div>\n' if cards else ""


def records_table(titles: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table whose rows become cards on a narrow screen.

    Args:
        titles: of the columns, as text.
        rows: HTML of a row each.
    """
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table class="records"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def folded(summary: str, body: str, opened: bool = False) -> str:
    """Return what a reader may unfold.

    Args:
        summary: the line that is always seen, as text.
        body: HTML.
        opened: whether it is unfolded at first.
    """
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(summary)}</summary>{body}</details>\n"


def terms(items: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms and what is said of them.

    Args:
        items: terms with their text.
    """
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in items)
    return f"<dl>{rows}</dl>"


def warning_list(warnings: Iterable[tuple[str, str]]) -> str:
    """Return warnings as a list that is seen, or nothing if there are none.

    Args:
        warnings: what each is about, and its text.
    """
    items = "".join(f"<li><b>{escape(w)}</b>: {escape(text)}</li>" for w, text in warnings)
    return f'<ul class="warnings" aria-label="warnings">{items}</ul>\n' if items else ""


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", pad_inches=0.08)
    return base64.b64encode(buffer.getvalue()).decode()


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
