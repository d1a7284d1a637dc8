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
from typing import Any, Literal

from priory.evaluation.remedies import Doubt, by_remedy

_FEW, _MANY = 150, 110  # dots per inch of pictures beside each other
_COLOURS = 96


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
    compact = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text = compact.replace("<", "\\u003c")
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


def picture_cards(figures: Mapping[str, Any], style: Literal["", "many", "wide"] = "") -> str:
    """Return figures as embedded PNG pictures.

    Args:
        figures: matplotlib figures by title.
        style: "many" for small ones with their titles above, side by side; "wide" for one that
            takes the page's width.
    """
    dpi, cards = _MANY if style == "many" else _FEW, []
    for title, figure in figures.items():
        caption = f"<figcaption>{escape(title)}</figcaption>" if style == "many" else ""
        image = f'<img alt="{escape(title)}" src="data:image/png;base64,{_png(figure, dpi)}">'
        cards.append(f"<figure>{caption}{image}</figure>")
    classes = f"cards {style}".strip()
    return f'<div class="{classes}">{"".join(cards)}</div>\n' if cards else ""


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


def warning_list(warnings: Iterable[tuple[str, Doubt]]) -> str:
    """Return warnings by what to do about them, or nothing if there are none.

    Args:
        warnings: what each is about, and the warning.
    """
    groups = ""
    for remedy, members in by_remedy(warnings).items():
        items = "".join(f"<li><b>{escape(w)}</b>: {escape(text)}</li>" for w, text in members)
        groups += f"<h3>{escape(remedy.value)}</h3><ul>{items}</ul>"
    return (
        f'<div class="warnings" role="group" aria-label="warnings">{groups}</div>\n'
        if groups
        else ""
    )


def _png(figure: Any, dpi: int) -> str:
    """Return a figure as a PNG file of few colours: a third of the size of one of all colours."""
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08)
    image = Image.open(drawn).convert("RGB")
    few = image.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
