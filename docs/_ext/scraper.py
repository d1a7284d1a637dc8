"""What the gallery takes from a script: pictures that it writes, beside pyplot's figures."""

import shutil
from pathlib import Path
from typing import Any

import pyro
import torch
from sphinx_gallery.scrapers import figure_rst

PICTURES = (".png", ".gif")


def fresh(config: dict[str, Any], _script: str) -> None:
    """Let a script begin with no parameters, seed 0, and none of its pictures."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    torch.set_num_threads(1)
    for folder in config["gallery_dirs"]:
        for path in _written(Path(config["src_dir"]) / folder):
            path.unlink()


def written(_block: Any, variables: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the pictures that a block wrote into its folder, as a figure each."""
    found = []
    for path in _written(Path(variables["target_file"]).parent):
        drawn = Path(next(variables["image_path_iterator"])).with_suffix(path.suffix)
        shutil.move(path, drawn)
        found.append(str(drawn))
    return figure_rst(found, config["src_dir"])


def _written(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in PICTURES)
