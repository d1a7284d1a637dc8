"""The page itself: style, scripts and numbers in one file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.explorer.layers import Layers
from priory.evaluation.explorer.view import ROWS, Grid, Rows, View
from priory.evaluation.report.canvas import is_image

LIMIT = 2_900_000  # bytes of a page
_LEAST = 50  # rows that a page keeps
_FULL = 1024  # numbers from which a matrix is kept in half precision
_COLUMNS = 64  # numbers of a datum that are bars; more are a line


class _Pack:
    """Arrays as text, each once."""

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self._places: dict[tuple[str, bytes], int] = {}

    def add(self, values: Tensor, kind: str) -> int:
        """Return the place of an array.

        Args:
            values: any shape; of kind "u8" within 0 to 255.
            kind: "f16", "f32", "f64", "u8" or "i32".
        """
        names = {"f16": "<f2", "f32": "<f4", "f64": "<f8", "u8": "u1", "i32": "<i4"}
        raw = values.detach().cpu().contiguous().numpy().astype(names[kind]).tobytes()
        place = self._places.setdefault((kind, raw), len(self.texts))
        if place == len(self.texts):
            data = base64.b64encode(zlib.compress(raw, 6)).decode()
            self.texts.append({"type": kind, "data": data})
        return place


def page_of(views: Sequence[View], data: str, *, limit: int = LIMIT) -> str:
    """Return the page, with as many rows as its size allows.

    Args:
        views: what it shows, of each run.
        data: the data's name.
        limit: of its size, in bytes; a decoder that is larger by itself is kept whole.
    """
    rows = ROWS
    while len(found := _page(views, data, rows)) > limit and rows > _LEAST:
        rows //= 2
    return found


def _page(views: Sequence[View], data: str, rows: int) -> str:
    pack = _Pack()
    *names, last = dict.fromkeys(view.name for view in views)
    title = f"{', '.join(names)}{' and ' if names else ''}{last} on {data}"
    kind = _kind(views[0])
    values = {
        "title": title,
        "datum": kind,
        "runs": [_run(view, pack, kind, rows) for view in views],
        "tensors": pack.texts,
    }
    # No text within may end the element: a "<" of JSON stands inside strings alone.
    text = json.dumps(values, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    style, body = _file("style.css"), _file("body.html")
    script = _file("arrays.js") + _file("explorer.js")
    worker = _file("arrays.js") + _file("worker.js")
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{style}</style></head>\n<body><main>"
        f"<h1>{escape(title)}</h1>\n{body}</main>\n"
        f'<script type="application/json" id="values">{text}</script>\n'
        f'<script type="text/plain" id="worker">{worker}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _kind(view: View) -> dict[str, Any]:
    """Return how a datum is drawn: as an image, a point of the plane, bars or a line."""
    x = view.test.x if view.test is not None else view.samples["x"]
    if is_image(x):
        low, high = float(x.min()), float(x.max())
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
        return {"kind": "image", "shape": [*view.shape], "low": low, "high": high}
    flat = x.reshape(len(x), -1).double()
    size = flat.shape[1]
    ends = [flat.quantile(q, 0).tolist() for q in (0.005, 0.995)]
    kind = "point" if size == 2 else "bars" if size <= _COLUMNS else "line"
    names = list(view.features) if len(view.features) == size else [f"x_{i}" for i in range(size)]
    return {"kind": kind, "shape": [size], "low": ends[0], "high": ends[1], "names": names}


def _data(x: Tensor, pack: _Pack, kind: dict[str, Any]) -> int:
    """Return the place of rows of data: images as bytes between the least and the largest grey."""
    if kind["kind"] != "image":
        return pack.add(x.reshape(len(x), -1), "f32")
    unit = (x.double() - kind["low"]) / max(kind["high"] - kind["low"], 1e-30)
    return pack.add((255 * unit.clamp(0, 1)).round().nan_to_num(0), "u8")


def _run(view: View, pack: _Pack, kind: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return what the page's script needs of a run."""
    found: dict[str, Any] = {"name": view.name, "reason": view.reason, "classes": [*view.classes]}
    found["samples"] = {
        name: _data(x[torch.isfinite(x.flatten(1)).all(1)], pack, kind)
        for name, x in view.samples.items()
    }
    if view.test is None or view.plane is None:
        return found
    plane = view.plane
    low, high = _ranges(view)
    shares = [f"{float(share):.0%}" for share in plane.share]
    found |= {
        "site": view.site,
        "straight": view.straight,
        "encoded": view.train is not None,
        "latent": len(plane.centre),
        "test": _rows(view.test.few(rows), pack, kind),
        "train": None if view.train is None else _rows(view.train.few(rows), pack, kind),
        "prior": None if view.prior is None else pack.add(view.prior, "f32"),
        "centre": pack.add(plane.centre, "f32"),
        "directions": pack.add(plane.directions, "f32"),
        "shares": shares,
        "active": [*view.active],
        "varying": view.varying,
        "low": pack.add(low, "f32"),
        "high": pack.add(high, "f32"),
        "decoder": None if view.layers is None else _decoder(view, view.layers, pack),
        "grid": None if view.grid is None else _grid(view.grid, pack, kind),
    }
    return found


def _ranges(view: View) -> tuple[Tensor, Tensor]:
    """Return between which values a slider moves each coordinate: where codes or prior are."""
    assert view.test is not None  # noqa: S101
    sets = [view.test.codes] + ([] if view.prior is None else [view.prior])
    low = torch.stack([codes.quantile(0.005, 0) for codes in sets]).amin(0)
    high = torch.stack([codes.quantile(0.995, 0) for codes in sets]).amax(0)
    wide = (high - low).clamp(min=1e-3)
    return low - 0.1 * wide, high + 0.1 * wide


def _rows(rows: Rows, pack: _Pack, kind: dict[str, Any]) -> dict[str, Any]:
    return {
        "codes": pack.add(rows.codes, "f16" if float(rows.codes.abs().max()) < 6e4 else "f32"),
        "x": _data(rows.x, pack, kind),
        "y": None if rows.y is None else pack.add(rows.y, "i32"),
        "number": pack.add(rows.number, "i32"),
        "n": len(rows.codes),
        "total": rows.total,
    }


def _decoder(view: View, layers: Layers, pack: _Pack) -> dict[str, Any]:
    """Return the layers, with their weights in half precision where that is enough."""
    assert view.checked is not None  # noqa: S101
    held = []
    for tensor in layers.tensors:
        small = tensor.dim() < 2 or tensor.numel() < _FULL or not view.half
        kind = "f32" if tensor.is_floating_point() and small else "f16"
        held.append(pack.add(tensor, kind if tensor.is_floating_point() else "i32"))
    points, means = view.checked
    scale, mean = (None, None) if view.units is None else view.units
    means = means.flatten(1).double()
    if scale is not None and mean is not None:
        means = means * scale + mean
    return {
        "records": [*layers.records],
        "held": held,
        "head": layers.head,
        "size": int(np.prod(layers.shape)),
        "scale": None if scale is None else pack.add(scale, "f64"),
        "mean": None if mean is None else pack.add(mean, "f64"),
        "points": pack.add(points, "f32"),
        "means": pack.add(means, "f64"),
        "weights": layers.weights,
        "half": view.half,
    }


def _grid(grid: Grid, pack: _Pack, kind: dict[str, Any]) -> dict[str, Any]:
    return {
        "low": grid.low.tolist(),
        "high": grid.high.tolist(),
        "side": round(len(grid.x) ** (1 / len(grid.low))),
        "x": _data(grid.x, pack, kind),
        "reason": grid.reason,
    }


def _digest(text: str) -> str:
    """Return what the page's policy allows a script or a style by."""
    sha = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(sha).decode()}'"


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
