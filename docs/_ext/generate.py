"""Writes the pages that are made of the code, before Sphinx reads any."""

from pathlib import Path

import api
import families
from sphinx.application import Sphinx


def write(app: Sphinx) -> None:
    """Write the reference and the families' pages into the folders `api` and `families`."""
    source = Path(app.srcdir)
    api.write(source / "api")
    families.write(source / "families")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write when the builder is there, before the files are looked for."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
