"""Writes llms.txt, the pages' list, and llms-full.txt, their text, beside the pages."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

FULL_FOLDERS = ("", "families", "tutorials")  # the reference and the gallery are in the list alone
INTRODUCTION = (
    "# Priory\n\n> A Python toolkit of deep generative models written as Pyro programs: a method "
    "is a model, a prior and an objective, trained by one loop and judged by one module.\n"
)


def summary(doctree: nodes.document, limit: int = 200) -> str:
    """Return the first paragraph of a page, on one line."""
    text = " ".join(next((p.astext() for p in doctree.findall(nodes.paragraph)), "").split())
    return text if len(text) <= limit else text[:limit].rpartition(" ")[0] + " ..."


def write(app: Sphinx, error: Exception | None) -> None:
    """Write both files when the pages are built."""
    if error is not None or app.builder.format != "html":
        return
    listed, full = [INTRODUCTION], [INTRODUCTION]
    for name in sorted(app.env.found_docs, key=lambda n: (n.count("/"), n)):
        doctree = app.env.get_doctree(name)
        title = app.env.titles[name].astext()
        listed.append(f"- [{title}]({name}.html): {summary(doctree)}")
        if name.rpartition("/")[0] in FULL_FOLDERS:
            full.append(f"# {title} ({name})\n\n{_source(app, name)}\n")
    out = Path(app.outdir)
    (out / "llms.txt").write_text("\n".join([*listed, ""]), encoding="utf-8")
    (out / "llms-full.txt").write_text("\n".join(full), encoding="utf-8")


def _source(app: Sphinx, name: str) -> str:
    return Path(app.env.doc2path(name)).read_text(encoding="utf-8").strip()


def setup(app: Sphinx) -> dict[str, bool]:
    """Write at the end of a build."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
