"""What the gallery takes from a script: pictures that it writes, beside pyplot's figures."""

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

PICTURES = (".png", ".gif")
SCRIPTS = {"tutorials": "learn", "gallery": "../examples"}  # what is run for each gallery


def copied(app: Sphinx, _config: Any) -> None:
    """Copy the scripts to where they are run, so that what they write stays out of the source."""
    for gallery, folder in SCRIPTS.items():
        place = Path(app.srcdir) / "_build" / "scripts" / gallery
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(Path(app.srcdir) / folder, place)


def fresh(_config: dict[str, Any], _script: str) -> None:
    """Let a script begin with no parameters and with seed 0."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    torch.set_num_threads(1)


def written(_block: Any, variables: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the pictures that a block wrote, if they are not pyplot's, which are shown already."""
    found, names = [], variables["image_path_iterator"]
    shown = len(names) > variables.get("written", 0)
    for path in sorted(Path(variables["src_file"]).parent.glob("*")):
        if path.suffix in PICTURES and not shown:
            drawn = Path(next(names)).with_suffix(path.suffix)
            shutil.copy(path, drawn)
            found.append(str(drawn))
        if path.suffix in PICTURES:
            path.unlink()
    variables["written"] = variables.get("written", 0) + len(found)
    return figure_rst(found, config["src_dir"])


def draw_texts(app: Sphinx) -> None:
    """Draw what a script printed, where it drew nothing itself, for the gallery's contents."""
    for name in app.config.sphinx_gallery_conf["gallery_dirs"]:
        folder = Path(app.srcdir) / name
        for page in sorted(folder.glob("*.rst")):
            text = page.read_text(encoding="utf-8")
            printed = re.search(r"\.\. code-block:: none\n\n((?:    .*\n|\n)+)", text)
            if printed and ".. image-sg::" not in text:
                thumb = folder / "images" / "thumb" / f"sphx_glr_{page.stem}_thumb.png"
                text_picture(printed[1]).savefig(thumb, dpi=80)


def text_picture(text: str) -> Figure:
    """Return the beginning of a text as a picture."""
    lines = [line[:58] for line in textwrap.dedent(text).strip("\n").splitlines()[:16]]
    figure = Figure(figsize=(4.0, 2.8), facecolor="#f8fafc")
    style = {"family": "monospace", "size": 6.8, "va": "top", "color": "#1e293b"}
    figure.text(0.03, 0.96, "\n".join(lines), parse_math=False, linespacing=1.35, **style)
    return figure


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy before the gallery is run, and draw afterwards."""
    app.connect("config-inited", copied)
    app.connect("builder-inited", draw_texts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
