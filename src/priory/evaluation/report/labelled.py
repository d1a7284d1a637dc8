"""Generated samples by the label given: a row of images for each, or points by colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from priory.evaluation.report.canvas import (
    CLASSES,
    SOFT,
    image_grid,
    is_image,
    legend,
    new_axes,
    tile,
)
from priory.evaluation.report.charts import histograms
from priory.evaluation.rows import rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def by_label(x: Tensor, names: Sequence[str], of: str = "label") -> Figure:
    """Draw as many generated samples under each label, or each value of another site.

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
        return histograms(rows_of(flat).numpy(), None)
    figure, axes = new_axes(title, "$x_1$", "$x_2$", note=note)
    for i, (name, some) in enumerate(zip(names, points, strict=True)):
        colour = CLASSES[i % len(CLASSES)]
        axes.scatter(*some.T, s=7, c=colour, alpha=0.6, linewidths=0, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    legend(axes)
    return figure
