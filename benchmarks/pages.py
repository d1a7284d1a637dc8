"""The pages that have benchmarks' tables, each between two marks of its name."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
PAGES = (README, README.parent / "docs" / "results.md")


def write(**tables: str) -> None:
    """Put tables into the pages.

    Args:
        tables: as Markdown, by their marks.
    """
    for page in PAGES:
        page.write_text(replaced(page.read_text(), tables))


def replaced(text: str, tables: dict[str, str]) -> str:
    """Return a page's text with tables in the place of those that it has.

    Args:
        text: of a page.
        tables: as Markdown, by their marks.
    """
    for mark, table in tables.items():
        part = f"<!-- {mark} -->\n{table}\n<!-- /{mark} -->"
        text = re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _, p=part: p, text, flags=re.S)
    return text
