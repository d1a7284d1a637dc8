"""What a command writes: folders, files and pictures."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from priory.cli.grammar import Request
from priory.inference.checkpoints.lock import LOCK
from priory.signatures import Option

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

OVERWRITE = Option("overwrite", bool, False, "replace what is there")
PICTURES = (".png", ".pdf", ".svg")


def folder_options(about: str) -> dict[str, Option]:
    """Return the options that say into which folder results go."""
    return {"out": Option("out", Path, None, about), "overwrite": OVERWRITE}


def check_folder(folder: Path, overwrite: bool, mark: str) -> None:
    """Raise unless a folder can be written, and holds nothing but results that may be replaced.

    Args:
        folder: where to write.
        overwrite: whether earlier results may be replaced.
        mark: the file by which earlier results are known.

    Raises:
        ValueError: naming the folder and the mend.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    content = {p.name for p in folder.iterdir()} - {LOCK} if folder.exists() else set()
    if content:  # a lock alone is what a run leaves that has failed before it began
        if not overwrite:
            raise ValueError(f"{folder} is not empty; pass --overwrite, or another --out")
        if not (folder / mark).is_file():
            raise ValueError(f"{folder} holds other things than results, and is left as it is")
    _writable(folder.parent)


def check_file(path: Path, overwrite: bool) -> None:
    """Raise unless a file can be written.

    Raises:
        ValueError: naming the file and the mend.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already; pass --overwrite, or another name")
    _writable(path.parent)


def output_file(
    request: Request, name: str, default: str = "", endings: Sequence[str] = ()
) -> Path:
    """Return the file that an option names; the request takes down why it cannot be written.

    Args:
        request: what was typed.
        name: of the option.
        default: the file where none was typed.
        endings: those that it may have; any if there are none.
    """
    path = Path(request.texts.get(name, default))
    if endings and path.suffix not in endings:
        request.errors.found.append(f"{name} must end in {', '.join(endings)}, got {path}")
    request.errors.attempt(check_file, path, request.overwrite)
    return path


def save_rows(path: Path, table: Mapping[str, Sequence[Any]], arrays: Mapping[str, Any]) -> None:
    """Write what was found of each row: a table with a column of row numbers first, or arrays.

    Args:
        path: where to, .csv or .npz.
        table: columns of the table by name; numbers are written with all their digits.
        arrays: by name, likewise of the .npz.

    Raises:
        OSError: naming the file that cannot be written.
    """
    try:
        if path.suffix == ".npz":
            np.savez(path, **arrays)
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["row", *table])
            rows = zip(*table.values(), strict=True)
            writer.writerows((i, *cells) for i, cells in enumerate(rows))
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"nothing can be written into {folder}: {error}") from error


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture in the resolution that all have.

    Args:
        figure: what to write.
        path: where to; its ending says in what form.
    """
    figure.savefig(path, dpi=150, bbox_inches="tight")


def means_of(draws: Mapping[str, Tensor]) -> Tensor:
    """Return what a picture shows of draws, on the CPU: of images the means, of points the draws.

    Args:
        draws: by site, as `Run.sample` returns them.

    Raises:
        ValueError: if there are none of x.
    """
    if "x" not in draws:
        raise ValueError(
            f"the model draws no x to be shown, only {', '.join(draws)}; write arrays: "
            "--out samples.npz"
        )
    return (draws.get("x_mean", draws["x"]) if draws["x"].dim() == 4 else draws["x"]).cpu()
