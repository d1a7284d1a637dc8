"""Docstrings as reStructuredText: their prose has no markup but code, links and formulas.

A star, a bar or a trailing underscore of a sentence is itself, so that `x_i` or |a - b| need no
backslash in the source.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


# Left alone: code, roles, links, and formulas in a line.
KEPT = re.compile(r"(``.+?``|(?::[\w:]+:)?`[^`]+`_{0,2})")
WORD = re.compile(r"^`([a-z_]\w*)`$")
SPECIAL = re.compile(r"([*|]|(?<=\w)_(?!\w))")


def escaped(text: str) -> str:
    """Return a line of prose with what would be markup escaped.

    A word of small letters in code, such as `x`, is an argument and no link.
    """
    parts = KEPT.split(text)
    parts[1::2] = [WORD.sub(r"``\1``", part) for part in parts[1::2]]
    parts[::2] = [SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def keep(path: Path, text: str) -> None:
    """Write a file, unless it has the text already, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def plain(lines: list[str]) -> list[str]:
    """Return a docstring's lines, escaped but for formulas, examples and literal blocks."""
    found: list[str] = []
    block: int | None = None  # the indentation of a directive or literal block
    example = False
    quoted = ""  # the part of a code span that began on the line before
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if block is None and (line.lstrip().startswith(".. ") or line.rstrip().endswith("::")):
            block = indent
        if block is not None or example:
            found.append(line)
            continue
        whole = escaped(quoted + line)[len(quoted) :] if quoted else escaped(line)
        found.append(whole)
        quoted = "`" if line.count("`") % 2 != bool(quoted) else ""
    return found


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a docstring, escaped."""
    paragraph = " ".join((text or "").strip().split("\n\n")[0].split())
    return escaped(re.split(r"(?<=[.:])\s(?=[A-Z])", paragraph)[0])


_SIMPLE = ("property", "attribute")  # whose first line napoleon would read as `type: text`
_held: dict[str, list[str]] = {}


def _before(
    _app: Sphinx, kind: str, name: str, _value: object, _options: object, lines: list[str]
) -> None:
    lines[:] = plain(lines)
    if kind in _SIMPLE:
        _held[name], lines[:] = [*lines], []


def _after(
    _app: Sphinx, kind: str, name: str, _value: object, _options: object, lines: list[str]
) -> None:
    if kind in _SIMPLE:
        lines[:] = _held.pop(name, lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Escape before napoleon reads the sections, and keep properties from it."""
    app.connect("autodoc-process-docstring", _before, priority=100)
    app.connect("autodoc-process-docstring", _after, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
