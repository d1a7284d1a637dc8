"""A run's parts as ONNX models in a folder, each checked before anything is written."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn

from priory import __version__
from priory.data.missing import SEEN
from priory.data.rows import is_file, rows_of_file
from priory.evaluation.isolation import placement
from priory.evaluation.rows import place, split_of
from priory.evaluation.subject import resolve, scope_of
from priory.inference.checkpoints.disk import write_folder
from priory.inference.modules import eval_mode, modules
from priory.inference.randomness import own_randomness
from priory.lookup import named
from priory.onnx.graphs import compute, difference, to_onnx
from priory.onnx.maps import MAPS, X_MEAN, Map, RefusedError, X
from priory.onnx.noise import NORMAL, UNIFORM

DESCRIPTION = "export.json"
TOLERANCE = 1e-5
_ROWS = 100  # by which a model is checked


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        folder: where to.
        files: the ONNX models by the part's name.
        differences: by how much onnxruntime and torch differ, the largest |a - b| / (1 + |b|), by
            the part's name; of x in units of each column's scale.
        refused: why a part is not there, by its name.
        left_out: why a part does not return something, by its name and that of the output.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{part}: {path}, equal to torch within {self.differences[part]:.1e}"
            for part, path in self.files.items()
        ]
        lines += [f"{part}: none, {reason}" for part, reason in self.refused.items()]
        lines += [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines)


def export(
    run: Any,
    folder: str | os.PathLike[str],
    data: Any = None,
    *,
    split: Literal["train", "valid", "test"] = "test",
    parts: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Exported:
    r"""Write encoder, decoder and sampler of a run as ONNX models, and a description of them.

    .. math:: x \mapsto \mathrm{E}[z \mid x],\ \mathrm{sd}[z \mid x]; \qquad
        z \mapsto \mathrm{E}[x \mid z]; \qquad \epsilon \mapsto z,\ \mathrm{E}[x \mid z]

    All take and return any number of rows, in the data's own units: the columns' means and scales
    are in the models. Each is run by onnxruntime on rows of the data, together and one alone, and
    held against the pair itself; nothing is written unless all agree to 1e-5.

    Args:
        run: a run, or an object with `model` and `guide`.
        folder: where to; `export.json` says what each model takes and returns.
        data: rows to check by, in any form that `encode` takes; the run's own if `None`.
        split: which part of a `Data`.
        parts: of "encoder", "decoder", "sampler"; by default all that the pair has.
        overwrite: whether an earlier export may be replaced.

    Returns:
        What was written, and why a part was not.

    Raises:
        ValueError: if a part that was asked for, or every part, is none that can be exported, a
            model differs from the pair, or the rows cannot be had.
        FileExistsError: if the folder holds other things, or an export and `overwrite` is off.
        ImportError: if the extra `onnx` isn't installed.

    Example:
        >>> made = export(run, "onnx/vae")
        >>> sorted(made.files), made.refused
        (['decoder', 'encoder', 'sampler'], {})
    """
    folder = Path(folder)
    check_target(folder, overwrite)
    wanted = [*MAPS] if parts is None else [*parts]
    kinds = {name: named("part", name, MAPS) for name in wanted}
    with opened(run, data, split) as (pair, rows, preparation):
        maps, refused, contents, gaps = {}, {}, {}, {}
        for name, kind in kinds.items():
            try:
                maps[name] = part = kind(pair, rows, preparation)
                contents[name] = to_onnx(part, _metadata(run, pair, name))
            except RefusedError as reason:
                refused[name] = str(reason)
                continue
            gaps[name] = _checked(contents[name], part)
        if refused and (parts is not None or not contents):
            reasons = "; ".join(f"the {k}: {v}" for k, v in refused.items())
            raise ValueError(f"{type(pair).__name__} cannot be exported so, {reasons}")
        described = {k: _described(maps[k], gaps[k], contents[k], preparation) for k in contents}
    text: dict[str, Any] = {
        **_metadata(run, pair),
        "columns": _about(preparation),
        "parts": described,
    }
    text |= {"refused": refused, "tolerance": TOLERANCE, "rows checked": len(rows[X])}
    files = {f"{k}.onnx": content for k, content in contents.items()}
    files[DESCRIPTION] = json.dumps(text, indent=1).encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder(folder, files)
    left_out = {f"{k}'s {n}": why for k in contents for n, why in maps[k].left_out.items()}
    return Exported(folder, {k: folder / f"{k}.onnx" for k in contents}, gaps, refused, left_out)


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise a FileExistsError unless a folder is free, or an export that may be replaced.

    Args:
        folder: the folder.
        overwrite: whether an earlier export may be replaced.
    """
    if not folder.exists():
        return
    content = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if content and DESCRIPTION not in content:
        raise FileExistsError(f"{folder} holds other things than an export; choose another folder")
    if content and not overwrite:
        raise FileExistsError(f"{folder} holds an export; pass overwrite=True, or another folder")


@contextmanager
def opened(run: Any, data: Any, split: str) -> Iterator[tuple[Any, dict[str, Tensor], Any]]:
    """Yield a pair on the CPU, in evaluation mode, with rows as it is given them.

    Args:
        run: a run, or a pair.
        data: in any form that `encode` takes; the run's own if `None`.
        split: which part of a `Data`.

    Yields:
        The pair, at most a hundred rows, and how they were prepared; `None` of a pair alone.

    Raises:
        ValueError: if there are not two rows, or the pair cannot be moved to the CPU.
    """
    preparation = getattr(run, "preparation", None)
    if is_file(data):
        data, _ = rows_of_file(data, preparation)
    _, pair, data = resolve(run, data)
    rows = {k: v.cpu() for k, v in split_of(data, split, limit=_ROWS).items()}
    if len(rows[X]) < 2:
        raise ValueError("an export is checked by two rows or more, got one: name others, data=...")
    like = placement(pair, pair.model, pair.guide)
    if like is not None and like.device.type != "cpu":
        if not isinstance(pair, nn.Module):
            raise ValueError("the pair's programs are on a device: move their modules to the CPU")
        pair = copy.deepcopy(pair).cpu()
    rows = place(rows, placement(pair, pair.model, pair.guide))
    own = own_randomness(torch.device("cpu"), 0)
    still = torch.no_grad(), pyro.validation_enabled(False)
    with scope_of(run), eval_mode(modules(pair.model, pair.guide)), own, still[0], still[1]:
        yield pair, rows, preparation


def _checked(content: bytes, part: Map) -> float:
    """Return by how much an ONNX model differs from the pair, on all rows and on one alone.

    Raises:
        ValueError: It differs by more than the tolerance.
    """
    expected = part.expected()
    gap = 0.0
    for rows in (slice(None), slice(0, 1)):
        found = compute(content, {k: v[rows] for k, v in part.inputs.items()})
        gap = max(gap, difference(found, {k: v[rows] for k, v in expected.items()}, part))
    if not gap <= TOLERANCE:
        raise ValueError(
            f"the {part.name} by onnxruntime differs from the pair's by {gap:.2g}, more than "
            f"{TOLERANCE:g}: nothing is written; train in float64, or export the other parts, "
            "parts=[...]"
        )
    return gap


def _metadata(run: Any, pair: Any, part: str | None = None) -> dict[str, str]:
    """Return what a model says of where it is from."""
    data = getattr(getattr(run, "data", None), "name", "")
    found = {
        "priory": __version__,
        "torch": torch.__version__,
        "pair": type(pair).__name__,
        "data": str(data),
        "weights": _digest(pair),
    }
    return found if part is None else {f"priory.{k}": v for k, v in {**found, "part": part}.items()}


def _digest(pair: Any) -> str:
    """Return the SHA-256 of a pair's weights, by which exports and runs are known to be one."""
    sha = hashlib.sha256()
    for module in modules(pair.model, pair.guide):
        for name, value in sorted(module.state_dict().items()):
            sha.update(name.encode())
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _about(preparation: Any) -> dict[str, Any]:
    """Return what is to be known of the data: the columns' order, the classes' names."""
    return {
        "features": [*getattr(preparation, "features", ())],
        "classes": [*getattr(preparation, "classes", ())],
    }


def _described(part: Map, gap: float, content: bytes, preparation: Any) -> dict[str, Any]:
    """Return what a model takes and returns, as plain values."""
    outputs = part.expected()
    return {
        "file": f"{part.name}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "difference": gap,
        "inputs": {k: _array(v, _input(k, part, preparation)) for k, v in part.inputs.items()},
        "outputs": {k: _array(v, _output(k)) for k, v in outputs.items()},
        "left out": part.left_out,
    }


def _array(value: Tensor, about: str) -> dict[str, Any]:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"shape": ["rows", *value.shape[1:]], "dtype": dtype, "is": about}


def _input(name: str, part: Map, preparation: Any) -> str:
    if name == NORMAL:
        return "independent draws from the standard normal distribution"
    if name == UNIFORM:
        return "independent draws from the uniform distribution on [0, 1)"
    if name == "y":
        return "labels by their numbers, in the order of the data's classes"
    if name != X:
        return "a column of the data" if name in part.rows else f"values of the latent {name}"
    about = ["rows in the data's own units"]
    if getattr(preparation, "pixels", False):
        about.append(f"pixels divided by {preparation.divisor:g}")
    if getattr(preparation, "binarise", "none") == "dynamic":
        about.append("of zeros and ones: greyscale is drawn first, as probabilities of a one")
    if SEEN in part.taken:
        about.append("NaN where an entry is missing")
    return ", ".join(about)


def _output(name: str) -> str:
    if name == X_MEAN:
        return "the mean of p(x | z) in the data's own units; no draw of x"
    if name == X:
        return "draws of x in the data's own units"
    site, _, what = name.rpartition("_")
    texts = {
        "mean": f"mean of q({site} | x)",
        "scale": f"standard deviation of q({site} | x)",
        "probabilities": f"probabilities of the values of {site}",
    }
    return texts.get(what, f"draws of the latent {name}")
