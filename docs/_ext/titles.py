"""Gives a script's page its title: the first sentence of the docstring, up to a colon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


# What the gallery writes before a docstring, and its first line.
START = re.compile(r"^(\.\. _sphx_glr_[\w.-]+:\n\n+)(\S.*)\n(?!([=\-~*^#])\3{3})", re.MULTILINE)


def titled(text: str) -> str:
    """Return a page with a heading above its first line, if it has none."""
    match = START.search(text)
    if match is None:
        return text
    title = re.split(r"[:.](?:\s|$)", match[2])[0]
    return f"{text[: match.end(1)]}{title}\n{'=' * len(title)}\n\n{text[match.start(2) :]}"


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    folders = app.config.sphinx_gallery_conf["gallery_dirs"]
    if name.rpartition("/")[0] in folders and not name.endswith("/index"):
        source[0] = titled(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at each page when it is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
