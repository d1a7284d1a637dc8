"""Pictures of chains over time: beside one another, and moving."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from priory.evaluation.report.canvas import MODEL, is_image, new_axes, tile
from priory.evaluation.report.pictures import snapshots
from priory.evaluation.rows import rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAMES = 60  # at most, of a moving picture
_SIDE = 360  # pixels of its shorter side, at least
_EACH, _LAST = 80, 1500  # milliseconds


def over_time(states: Tensor) -> Figure:
    """Draw chains at some of their steps: a row of images, or a small chart, for each.

    Args:
        states: `(time, n, *shape)`, the start first.
    """
    taken = dict(enumerate(states))
    return snapshots(taken, title="Chains over time", note="each column is a chain; rows are steps")


def save_moving(states: Tensor, path: Path) -> None:
    """Write chains over time as a GIF: of images a grid, of points of the plane all of them.

    Args:
        states: `(time, n, *shape)`, the start first.
        path: where to.

    Raises:
        ValueError: if they are neither.
    """
    from PIL import Image

    last = len(states) - 1
    times = sorted({round(i * last / (_FRAMES - 1)) for i in range(_FRAMES)})
    if is_image(states[0]):
        pages = _grids(states[times])
    elif rows_of(states[0]).shape[1] == 2:
        pages = _charts(states[times], times)
    else:
        raise ValueError(
            "a moving picture shows images, or points of the plane, and a state has "
            f"{rows_of(states[0]).shape[1]} numbers: write arrays, --out way.npz"
        )
    frames = [Image.fromarray(page) for page in pages]
    each = [_EACH] * (len(frames) - 1) + [_LAST]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=each, loop=0)


def _grids(states: Tensor) -> list[np.ndarray[Any, Any]]:
    """Return grids of images, 8 bits, on the scale of the last."""
    side = math.isqrt(states.shape[1])
    shown = states[:, : side * side]
    low, high = float(shown[-1].min()), float(shown[-1].max())
    scaled = ((shown - low) / max(high - low, 1e-12)).clamp(0, 1)
    grids = [tile(x, side) for x in scaled]
    zoom = max(1, -(-_SIDE // min(grids[0].shape[:2])))
    pages = [np.rint(255 * g).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1) for g in grids]
    return [page.squeeze(-1) if page.shape[-1] == 1 else page for page in pages]


def _charts(states: Tensor, times: list[int]) -> list[np.ndarray[Any, Any]]:
    """Return charts of points at some times, in colour, all on one scale."""
    points = rows_of(states.flatten(0, 1)).reshape(len(states), -1, 2).numpy()
    low, high = points.min((0, 1)), points.max((0, 1))
    pages = []
    for time, now in zip(times, points, strict=True):
        figure, axes = new_axes(f"Step {time:,}", "$x_1$", "$x_2$")
        axes.scatter(*now.T, s=7, c=MODEL, alpha=0.6, linewidths=0)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        drawn: Any = figure.canvas
        drawn.draw()
        pages.append(np.asarray(drawn.buffer_rgba())[..., :3].copy())
    return pages
