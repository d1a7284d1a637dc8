"""Pictures of samples: of a pair, by label, as it trained; their neighbours; reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.report.canvas import (
    CLASSES,
    MODEL,
    PRIOR,
    SOFT,
    image_grid,
    is_image,
    legend,
    new_axes,
    tile,
)
from priory.evaluation.report.charts import histograms, small_multiples
from priory.evaluation.rows import rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST, _ACROSS = 12, 12  # snapshots, and images of each, that are shown


def generated(x: Tensor, real: Tensor | None = None) -> Figure:
    """Draw samples: a grid of images, a scatter of points, or histograms of features.

    Args:
        x: generated samples, `(n, *shape)`.
        real: data to show beside them, where they are not images, `(n, *shape)`.
    """
    if is_image(x):
        side = math.isqrt(len(x))
        note = f"{side * side} draws of z, and the mean of p(x | z) where it has one"
        return image_grid(tile(x[: side * side], side), "Samples", note)
    flat = rows_of(x).numpy()
    data = None if real is None else rows_of(real).numpy()
    if flat.shape[1] == 2:
        figure, axes = new_axes("Samples", "$x_1$", "$x_2$")
        if data is not None:
            axes.scatter(*data.T, s=7, c=CLASSES[1], alpha=0.6, linewidths=0, label="data")
        axes.scatter(*flat.T, s=7, c=MODEL, alpha=0.6, linewidths=0, label="samples")
        axes.set_aspect("equal", adjustable="datalim")
        legend(axes)
        return figure
    return histograms(flat, data)


def by_label(x: Tensor, names: Sequence[str], of: str = "label") -> Figure:
    """Draw as many generated samples under each label, or each value of another site.

    Images stand in a row for each, points of the plane in one chart, all else in a chart each.

    Args:
        x: generated samples, `(labels, n, *shape)`.
        names: of the labels.
        of: what a name is the name of.
    """
    title, note = f"Samples by {of}", f"each under the {of} that was given"
    rows, n = x.shape[:2]
    flat = x.flatten(0, 1)
    if is_image(flat):
        figure = image_grid(tile(flat, n), title, note)
        axes = figure.axes[0]
        low, _ = sorted(axes.get_ylim())
        height = abs(axes.get_ylim()[0] - axes.get_ylim()[1]) / rows
        for i, name in enumerate(names):
            place = low + (i + 0.5) * height
            axes.text(-2, place, name, ha="right", va="center", fontsize=9, color=SOFT)
        return figure
    points = rows_of(flat).view(rows, n, -1).numpy()
    if points.shape[2] != 2:
        panels = {f"{of} {name}": some for name, some in zip(names, points, strict=True)}
        more = ", first two features" if points.shape[2] > 2 else ""
        return small_multiples(panels, None, title + more)
    figure, axes = new_axes(title, "$x_1$", "$x_2$", note=note)
    for i, (name, some) in enumerate(zip(names, points, strict=True)):
        colour = CLASSES[i % len(CLASSES)]
        axes.scatter(*some.T, s=7, c=colour, alpha=0.6, linewidths=0, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    legend(axes)
    return figure


def snapshots(
    taken: Mapping[int, Tensor],
    real: Tensor | None = None,
    title: str = "Snapshots",
    note: str = "each column has one z; each row is a step",
) -> Figure:
    """Draw the same samples as training went on: a row of images, or a small chart, for each step.

    Args:
        taken: samples `(n, *shape)` by the step at which they were drawn, always of the same noise.
        real: data to show behind points, and whose range images are cut to, `(m, *shape)`.
        title: of the whole.
        note: what columns and rows of images are.
    """
    steps = sorted(taken)
    if len(steps) > _MOST:
        steps = [steps[round(i * (len(steps) - 1) / (_MOST - 1))] for i in range(_MOST)]
    if is_image(taken[steps[0]]):
        columns = min(_ACROSS, len(taken[steps[0]]))
        low, high = (0.0, 1.0) if real is None else (float(real.min()), float(real.max()))
        shown = [taken[step][:columns].clamp(low, high) for step in steps]
        grid = tile(torch.cat(shown), columns)
        figure = image_grid(grid, title, note)
        axes = figure.axes[0]
        height = shown[0].shape[2]
        gap = (grid.shape[0] - len(steps) * height) / max(1, len(steps) - 1)
        for i, step in enumerate(steps):
            middle = i * (height + gap) + height / 2
            axes.annotate(
                f"{step:,}", (0, middle), xytext=(-6, 0), textcoords="offset points",
                ha="right", va="center", fontsize=9, color=SOFT, annotation_clip=False,
            )  # fmt: skip
        return figure
    return small_multiples(
        {f"step {step:,}": rows_of(taken[step]).numpy() for step in steps},
        None if real is None else rows_of(real).numpy(),
        title,
    )


def nearest(x: Tensor, train: Tensor) -> Figure:
    """Draw generated samples above the training rows nearest to them, by which copies are seen.

    Args:
        x: generated samples, images `(n, channels, height, width)`.
        train: the training row nearest to each, likewise.
    """
    note = "generated samples above, the training row nearest to each below"
    return image_grid(tile(torch.cat([x, train]), len(x)), "Nearest training rows", note)


def reconstructions(x: Tensor, mean: Tensor, columns: int = 10) -> Figure:
    """Draw data and their reconstructions: images above each other, or predicted against true.

    Args:
        x: data, `(n, *shape)`.
        mean: reconstructions, `(n, *shape)`.
        columns: images side by side.
    """
    if is_image(x):
        rows = max(1, min(3, len(x) // columns))
        n = min(len(x), rows * columns)
        width = math.ceil(n / rows)
        pairs = [
            tile(torch.cat([x[i : i + width], mean[i : i + width]]), width)
            for i in range(0, n, width)
        ]
        gap = np.ones((max(2, pairs[0].shape[0] // 16), *pairs[0].shape[1:]))
        stack = [part for pair in pairs for part in (pair, gap)][:-1]
        note = "data in the upper row of each pair, reconstructions in the lower"
        return image_grid(np.concatenate(stack), "Reconstructions", note)
    a, b = rows_of(x).numpy(), rows_of(mean).numpy()
    if a.shape[1] == 2:
        figure, axes = new_axes("Reconstructions", "$x_1$", "$x_2$")
        for start, end in zip(a, b, strict=True):
            axes.plot(*np.stack([start, end]).T, c=PRIOR, lw=0.8, zorder=1)
        axes.scatter(*a.T, s=14, c=CLASSES[1], linewidths=0, label="data", zorder=2)
        axes.scatter(*b.T, s=14, c=MODEL, linewidths=0, label="reconstructions", zorder=3)
        axes.set_aspect("equal", adjustable="datalim")
        legend(axes)
        return figure
    figure, axes = new_axes("Reconstructions", "data", "reconstruction")
    low, high = float(a.min()), float(a.max())
    axes.plot([low, high], [low, high], c=SOFT, lw=1, ls="--", zorder=1)
    axes.scatter(a.ravel(), b.ravel(), s=7, c=MODEL, alpha=0.5, linewidths=0, zorder=2)
    return figure
