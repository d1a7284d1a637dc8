"""Pictures of paths through the latent space, and of images that are moved along a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from priory.evaluation.report.canvas import (
    CLASSES,
    INK,
    PRIOR,
    SOFT,
    canvas,
    image_grid,
    is_image,
    legend,
    new_axes,
    tile,
)
from priory.evaluation.rows import rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "color": INK, "ha": "left"}


def interpolations(paths: Tensor, real: Tensor | None = None) -> Figure:
    """Draw paths through the latent space: a row of images each, lines in the plane, or curves.

    Args:
        paths: rows and steps, `(rows, steps, *shape)`.
        real: data to show beneath, where they are points of the plane, `(n, 2)`.
    """
    rows, steps = paths.shape[:2]
    flat = paths.flatten(0, 1)
    note = "each row leads from one latent to another" if is_image(flat) else ""
    if is_image(flat):
        return image_grid(tile(flat, steps), "Interpolations", note)
    points = rows_of(flat).view(rows, steps, -1).numpy()
    if points.shape[2] == 2:
        figure, axes = new_axes("Interpolations", "$x_1$", "$x_2$")
        if real is not None:
            axes.scatter(*rows_of(real).numpy().T, s=7, c=PRIOR, linewidths=0, label="data")
        for colour, path in zip(CLASSES * rows, points, strict=False):
            axes.plot(*path.T, c=colour, lw=1.4, marker="o", ms=3.5)
            axes.plot(*path[[0, -1]].T, c=colour, lw=0, marker="o", ms=8)
        axes.set_aspect("equal", adjustable="datalim")
        legend(axes)
        return figure
    figure, axes = new_axes(
        "Interpolations", "share of the way", "first feature", note="the means of p(x | z)"
    )
    for colour, path in zip(CLASSES * rows, points, strict=False):
        axes.plot(np.linspace(0.0, 1.0, steps), path[:, 0], c=colour, lw=1.4, marker="o", ms=3.5)
    return figure


def image_rows(
    frames: Tensor,
    labels: Sequence[str],
    alphas: Sequence[float],
    title: str,
    columns: int = 1,
    *,
    above: str = "weight α of the difference of class means",
    marked: float | None = 1,
) -> Figure:
    """Draw rows of images on ways through a latent space, with the weights above.

    Args:
        frames: images within [0, 1], `(rows, weights, 1 or 3, height, width)`.
        labels: what each row shows.
        alphas: the weights of the vector, or where else on its way an image stands.
        title: of the picture.
        columns: blocks of rows side by side.
        above: what these numbers are.
        marked: the number that is set in bold.

    Raises:
        ValueError: if labels or weights are not as many as rows and columns of images.
    """
    if frames.shape[:2] != (len(labels), len(alphas)):
        raise ValueError(
            f"expected {len(labels)} rows of {len(alphas)} images, got {tuple(frames.shape[:2])}"
        )
    rows = -(-len(frames) // columns)
    width, height = (5.4, 0.58) if columns == 1 else (3.4 * columns, 0.44)
    figure = canvas(width, height * rows + 0.7)
    figure.suptitle(title, x=0.01, **_TITLE)
    for column in range(columns):
        part = slice(column * rows, (column + 1) * rows)
        axes = figure.add_subplot(1, columns, column + 1)
        _block(axes, frames[part], labels[part], alphas, marked)
        axes.set_xlabel(above, fontsize=8, color=SOFT)
        axes.xaxis.set_label_position("top")
    return figure


def _block(
    axes: Any,
    frames: Tensor,
    labels: Sequence[str],
    alphas: Sequence[float],
    marked: float | None,
) -> None:
    steps, (height, width) = frames.shape[1], frames.shape[-2:]
    ink = frames.shape[2] == 1  # greyscale images are drawn in ink on white
    shown = frames.flatten(0, 1).clamp(0, 1)
    grid = tile(1 - shown if ink else shown, steps)
    axes.imshow(grid[..., 0] if ink else grid, cmap="gray", vmin=0, vmax=1)
    gap = max(1, width // 14)
    axes.xaxis.tick_top()
    axes.set_xticks([i * (width + gap) + width / 2 for i in range(steps)])
    axes.set_xticklabels([f"{alpha:g}" for alpha in alphas], fontsize=8, color=SOFT)
    for alpha, label in zip(alphas, axes.get_xticklabels(), strict=True):
        if alpha == marked:
            label.set(fontweight="bold", color=INK)
    axes.set_yticks([i * (height + gap) + height / 2 for i in range(len(labels))])
    axes.set_yticklabels(labels, fontsize=9, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
