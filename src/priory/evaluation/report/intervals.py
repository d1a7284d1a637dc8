"""One chart of a comparison: its main figure, by label, with an interval and every seed's value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from priory.evaluation.report.canvas import DATA, INK, MODEL, PRIOR, SOFT, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE = 0.36  # inches of a label
_LONGEST = 40  # characters of a label


def intervals(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]],
    title: str,
    *,
    unit: str = "",
    anchors: Sequence[tuple[str, float]] = (),
    note: str = "",
) -> Figure:
    """Draw labels beneath each other: the mean, its 95% interval, and a dot for each seed.

    Args:
        rows: a label each, from the top: its name, the values of its seeds, and the interval of
            their mean, if it has one.
        title: of the chart.
        unit: of the values.
        anchors: values that no label changes, with what they are.
        note: what the intervals are of.
    """
    figure, axes = new_axes(title, unit, "", note=note, size=(9.0, 1.2 + _LINE * max(2, len(rows))))
    for i, (_, values, ends) in enumerate(rows):
        if ends is not None:
            axes.plot(ends, (i, i), c=MODEL, lw=2.2, alpha=0.55, solid_capstyle="butt", zorder=2)
        if len(values) > 1:
            axes.scatter(values, [i] * len(values), s=16, c=DATA, linewidths=0, zorder=3)
        axes.scatter(
            sum(values) / len(values), i, s=46, c=MODEL, marker="D", linewidths=0, zorder=4
        )
    for name, value in anchors:
        axes.axvline(value, c=SOFT, lw=1.0, ls="--", zorder=1)
        axes.annotate(
            name, (value, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
            textcoords="offset points", fontsize=8.5, color=SOFT,
        )  # fmt: skip
    names = (name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name, *_ in rows)
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=PRIOR, lw=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10)
    return figure
