"""What pictures are drawn on: axes, grids of images, colours. Without pyplot's global state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, MODEL, PRIOR = "#8a9099", "#2a5db0", "#c9ccd1"
INK, SOFT = "#1c1e21", "#666b73"
HEADING: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "color": INK, "loc": "left"}
CLASSES = (
    *("#2a5db0", "#e07b39", "#3a9b6b", "#c23b5a", "#7d5ab5"),
    *("#8c6d46", "#d873b4", "#5f6770", "#b0ab2c", "#35a3b8"),
)


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def is_image(x: Tensor) -> bool:
    """Return whether rows are images: `(n, 1 or 3, height, width)`."""
    return x.dim() == 4 and x.shape[1] in (1, 3)


def tile(x: Tensor, columns: int) -> np.ndarray[Any, Any]:
    """Put images into a grid on white, `(height, width, channels)` within [0, 1].

    Args:
        x: images, `(n, channels, height, width)`.
        columns: images side by side.
    """
    n, channels, height, width = x.shape
    gap = max(1, width // 14)
    rows = math.ceil(n / columns)
    low, high = float(x.min()), float(x.max())
    if low < 0.0 or high > 1.0:
        x = (x - low) / max(high - low, 1e-12)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    grid = np.ones(shape)
    for i, image in enumerate(x.permute(0, 2, 3, 1).double().numpy()):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def image_grid(grid: np.ndarray[Any, Any], title: str, note: str) -> Figure:
    """Draw a grid of images from `tile` under a title and a note."""
    height, width = grid.shape[:2]
    figure, axes = new_axes(title, "", "", note=note, size=(5.5, 5.5 * height / width + 0.6))
    axes.imshow(grid.squeeze(-1) if grid.shape[2] == 1 else grid, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


def new_axes(
    title: str, x: str, y: str, *, note: str = "", size: tuple[float, float] = (5.0, 3.75)
) -> tuple[Figure, Any]:
    """Return a figure of one chart and its axes, with title, note and labels."""
    figure = canvas(*size)
    axes = figure.add_subplot()
    axes.set_title(title, pad=20 if note else 8, **HEADING)
    if note:
        axes.annotate(
            note, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points",
            fontsize=9.5, color=SOFT,
        )  # fmt: skip
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    plain(axes)
    return figure, axes


def plain(axes: Any) -> None:
    """Take the frame and the weight off a chart's axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PRIOR)
    axes.tick_params(colors=SOFT, labelsize=9, length=3)


def legend(axes: Any, *, outside: bool = False) -> None:
    """Add a legend of what is labelled, if anything is."""
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    where = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if outside else {"loc": "best"}
    legend = axes.legend(handles, names, frameon=False, fontsize=9, markerscale=2, **where)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
