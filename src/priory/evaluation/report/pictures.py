"""Pictures of a pair: its samples, their neighbours, reconstructions, and ways between data."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from priory.evaluation.report.charts import (
    bounds,
    calibration,
    histograms,
    latents,
    small_multiples,
    training,
)
from priory.evaluation.report.gallery import Gallery
from priory.evaluation.report.labelled import by_label
from priory.evaluation.rows import rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PLACES",
    "Gallery",
    "draw",
    "generated",
    "nearest",
    "reconstructions",
    "snapshots",
    "strips",
    "training",
]

_MOST, _ACROSS = 12, 12  # snapshots, and images of each, that are shown

PLACES: dict[str, str] = {
    "Samples": "samples",
    "Samples by label": "samples",
    "Reconstructions": "samples",
    "Nearest training rows": "samples",
    "Latents": "latents",
    "Bounds": "likelihood",
    "Calibration": "posterior",
    "Interpolations": "paths",
    "Training": "training",
}
"""Where a page shows each picture: beneath the metrics of a group, or at its end."""


def draw(gallery: Gallery) -> dict[str, Figure]:
    """Draw every picture that a gallery has the rows for.

    Args:
        gallery: what to show.

    Returns:
        Figures by title, in the order of a report.
    """
    figures: dict[str, Figure] = {}
    if gallery.generated is not None:
        figures["Samples"] = generated(gallery.generated, gallery.x)
    if gallery.labelled is not None:
        figures["Samples by label"] = by_label(*gallery.labelled)
    if gallery.nearest is not None:
        figures["Nearest training rows"] = nearest(*gallery.nearest)
    if gallery.reconstructed is not None:
        figures["Reconstructions"] = reconstructions(*gallery.reconstructed)
    if gallery.strips is not None and len(gallery.strips):
        figures["Interpolations"] = strips(gallery.strips, gallery.x)
    if gallery.latents is not None:
        figures["Latents"] = latents(gallery.latents, gallery.labels, gallery.prior)
    found = gallery.calibration
    if found is not None and len(found.ranks):
        figures["Calibration"] = calibration(found.ranks.cpu(), found.levels, found.names)
    if gallery.bounds is not None and len(gallery.bounds) > 1:
        figures["Bounds"] = bounds(gallery.bounds)
    if len(gallery.history) > 1:
        figures["Training"] = training(gallery.history)
    return figures


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


def snapshots(taken: Mapping[int, Tensor], real: Tensor | None = None) -> Figure:
    """Draw the same samples as training went on: a row of images, or a small chart, for each step.

    Args:
        taken: samples `(n, *shape)` by the step at which they were drawn, always of the same noise.
        real: data to show behind points, and whose range images are cut to, `(m, *shape)`.
    """
    steps = sorted(taken)
    if len(steps) > _MOST:
        steps = [steps[round(i * (len(steps) - 1) / (_MOST - 1))] for i in range(_MOST)]
    if is_image(taken[steps[0]]):
        columns = min(_ACROSS, len(taken[steps[0]]))
        low, high = (0.0, 1.0) if real is None else (float(real.min()), float(real.max()))
        shown = [taken[step][:columns].clamp(low, high) for step in steps]
        grid = tile(torch.cat(shown), columns)
        figure = image_grid(grid, "Snapshots", "each column has one z; each row is a step")
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
        "Snapshots",
    )


def nearest(x: Tensor, train: Tensor) -> Figure:
    """Draw generated samples above the training rows nearest to them, by which copies are seen.

    Args:
        x: generated samples, images `(n, channels, height, width)`.
        train: the training row nearest to each, likewise.
    """
    note = "generated samples in the upper row, the training row nearest to each in the lower"
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


def strips(ways: Tensor, real: Tensor | None = None) -> Figure:
    """Draw ways through the latent space: a row of images each, lines in the plane, or curves.

    Args:
        ways: rows and steps, `(rows, steps, *shape)`.
        real: data to show beneath, where they are points of the plane, `(n, 2)`.
    """
    rows, steps = ways.shape[:2]
    flat = ways.flatten(0, 1)
    note = "each row leads from one latent to another" if is_image(flat) else ""
    if is_image(flat):
        return image_grid(tile(flat, steps), "Interpolations", note)
    points = rows_of(flat).view(rows, steps, -1).numpy()
    if points.shape[2] == 2:
        figure, axes = new_axes("Interpolations", "$x_1$", "$x_2$")
        if real is not None:
            axes.scatter(*rows_of(real).numpy().T, s=7, c=PRIOR, linewidths=0, label="data")
        for colour, way in zip(CLASSES * rows, points, strict=False):
            axes.plot(*way.T, c=colour, lw=1.4, marker="o", ms=3.5)
            axes.plot(*way[[0, -1]].T, c=colour, lw=0, marker="o", ms=8)
        axes.set_aspect("equal", adjustable="datalim")
        legend(axes)
        return figure
    figure, axes = new_axes(
        "Interpolations", "share of the way", "first feature", note="the means of p(x | z)"
    )
    for colour, way in zip(CLASSES * rows, points, strict=False):
        axes.plot(np.linspace(0.0, 1.0, steps), way[:, 0], c=colour, lw=1.4, marker="o", ms=3.5)
    return figure
