"""Formulas as MathML, which browsers draw themselves: no script, no font, no network.

docutils translates the LaTeX; what it does not know stops the build, with the formula.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

# Commands of LaTeX that docutils lacks, by one that it has. A \big is a left delimiter before an
# opening bracket, and a right one before a closing bracket.
SYNONYMS = (
    (re.compile(r"\\dots\b"), r"\\ldots"),
    (re.compile(r"\\([bB]igg?)(?=\s*(?:[(\[|]|\\\{|\\lfloor))"), r"\\\1l"),
    (re.compile(r"\\([bB]igg?)(?=\s*(?:[)\]]|\\\}|\\rfloor))"), r"\\\1r"),
)


def mathml(tex: str, block: bool) -> str:
    """Return a formula as MathML; a wide space parts a displayed one, so that it may wrap.

    Args:
        tex: LaTeX, without delimiters.
        block: Whether it stands alone.

    Raises:
        MathError: It has a command that is unknown.
    """
    for pattern, known in SYNONYMS:
        tex = pattern.sub(known, tex)
    parts = re.split(r"\\q?quad", tex) if block else [tex]
    if any(part.count("{") != part.count("}") or "\\begin" in part for part in parts):
        parts = [tex]
    return " ".join(tex2mathml(part.strip(), as_block=block) for part in parts if part.strip())


def _visit(translator: Any, node: nodes.Element, block: bool) -> None:
    tag = "div" if block else "span"
    try:
        drawn = mathml(node.astext(), block)
    except MathError as error:
        place = (getattr(translator.builder, "current_docname", None), node.line)
        logging.getLogger(__name__).warning(
            "no MathML of %r: %s", node.astext(), error, location=place
        )
        drawn = f"<code>{translator.encode(node.astext())}</code>"
    translator.body.append(f'<{tag} class="math">{drawn}</{tag}>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer `mathml`."""
    app.add_html_math_renderer(
        "mathml",
        (lambda translator, node: _visit(translator, node, False), None),
        (lambda translator, node: _visit(translator, node, True), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
