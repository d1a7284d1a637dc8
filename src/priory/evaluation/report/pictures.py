"""Pictures of a pair: its dreams, reconstructions, latents, training and per-datum bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from priory.evaluation.columns import rows_of
from priory.evaluation.report.canvas import (
    CLASSES,
    DATA,
    HEADING,
    INK,
    MODEL,
    PRIOR,
    SOFT,
    canvas,
    image_grid,
    is_image,
    legend,
    new_axes,
    plain,
    tile,
)

_FEATURES = 6


@dataclass(frozen=True)
class Gallery:
    """The few rows that pictures show, on the CPU; each is `None` where the pair has no such draw.

    Args:
        x: data, `(n, *shape)`.
        dreams: dreams, or the means of p(x given z), `(n, *shape)`.
        reconstructed: data and their reconstructions, each `(n, *shape)`.
        latents: posterior means, `(n, latent)`.
        labels: their labels, `(n,)`.
        prior: draws from the prior, `(n, latent)`.
        bounds: bound on log p(x) by datum, `(n,)`, in nats.
        history: the training's records, by epoch or step.
    """

    x: Tensor | None = None
    dreams: Tensor | None = None
    reconstructed: tuple[Tensor, Tensor] | None = None
    latents: Tensor | None = None
    labels: Tensor | None = None
    prior: Tensor | None = None
    bounds: Tensor | None = None
    history: tuple[Mapping[str, Any], ...] = ()


def draw(gallery: Gallery) -> dict[str, Figure]:
    """Draw every picture that a gallery has the rows for.

    Args:
        gallery: what to show.

    Returns:
        Figures by title, in the order of a report.
    """
    figures: dict[str, Figure] = {}
    if gallery.dreams is not None:
        figures["Dreams"] = dreams(gallery.dreams, gallery.x)
    if gallery.reconstructed is not None:
        figures["Reconstructions"] = reconstructions(*gallery.reconstructed)
    if gallery.latents is not None:
        figures["Latents"] = latents(gallery.latents, gallery.labels, gallery.prior)
    if gallery.bounds is not None and len(gallery.bounds) > 1:
        figures["Bounds"] = bounds(gallery.bounds)
    if len(gallery.history) > 1:
        figures["Training"] = training(gallery.history)
    return figures


def dreams(x: Tensor, real: Tensor | None = None) -> Figure:
    """Draw dreams: a grid of images, a scatter of points, or histograms of features.

    Args:
        x: dreams, `(n, *shape)`.
        real: data to show beside them, where they are not images, `(n, *shape)`.
    """
    if is_image(x):
        side = math.isqrt(len(x))
        note = f"{side * side} draws of z, and the mean of p(x | z) where it has one"
        return image_grid(tile(x[: side * side], side), "Dreams", note)
    flat = rows_of(x).numpy()
    data = None if real is None else rows_of(real).numpy()
    if flat.shape[1] == 2:
        figure, axes = new_axes("Dreams", "$x_1$", "$x_2$")
        if data is not None:
            axes.scatter(*data.T, s=7, c=CLASSES[1], alpha=0.6, linewidths=0, label="data")
        axes.scatter(*flat.T, s=7, c=MODEL, alpha=0.6, linewidths=0, label="dreams")
        axes.set_aspect("equal", adjustable="datalim")
        legend(axes)
        return figure
    return _histograms(flat, data)


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


def latents(mean: Tensor, labels: Tensor | None = None, prior: Tensor | None = None) -> Figure:
    """Draw a map of posterior means over draws from the prior; by principal components beyond 2-D.

    Args:
        mean: posterior means, `(n, latent)`.
        labels: colours, `(n,)`.
        prior: draws from the prior, `(m, latent)`.
    """
    z = mean.double()
    axis_names, note = ("$z_1$", "$z_2$"), "posterior means"
    other = None if prior is None else prior.double()
    if z.shape[1] > 2:
        centre = z.mean(0)
        _, scale, basis = torch.linalg.svd(z - centre, full_matrices=False)
        share = float(scale[:2].square().sum() / scale.square().sum().clamp_min(1e-30))
        z, other = (
            (z - centre) @ basis[:2].T,
            None if other is None else (other - centre) @ basis[:2].T,
        )
        axis_names = ("first component", "second component")
        note = (
            f"posterior means: 2 of {mean.shape[1]} principal components, {share:.0%} of variance"
        )
    if z.shape[1] == 1:
        return _histograms(z.numpy(), None if other is None else other.numpy(), "Latents", "z")
    figure, axes = new_axes("Latents", *axis_names, note=note)
    if other is not None:
        axes.scatter(*other.numpy().T, s=8, c=PRIOR, linewidths=0, label="prior", zorder=1)
    points, size = z.numpy(), min(24.0, max(7.0, 6000 / len(z)))
    if labels is None or not 2 <= len(labels.unique()) <= len(CLASSES):
        axes.scatter(*points.T, s=size, c=MODEL, alpha=0.7, linewidths=0, label="data", zorder=2)
    else:
        for colour, label in zip(CLASSES, labels.unique().tolist(), strict=False):
            chosen = points[(labels == label).numpy()]
            axes.scatter(
                *chosen.T, s=size, c=colour, alpha=0.8, linewidths=0, label=str(label), zorder=2
            )
    legend(axes, outside=True)
    return figure


def bounds(values: Tensor) -> Figure:
    """Draw the histogram of per-datum bounds on log p(x).

    Args:
        values: `(n,)`, in nats.
    """
    figure, axes = new_axes("Bounds by datum", "bound on log p(x), nats", "number of data")
    axes.hist(values.numpy(), bins=min(40, max(10, len(values) // 10)), color=MODEL, alpha=0.85)
    mean = float(values.mean())
    axes.axvline(mean, c=INK, lw=1.2, ls="--", label=f"mean {mean:.4g}")
    legend(axes)
    return figure


def training(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the training's loss and its bound, which goes up, by epoch.

    Args:
        history: records with `epoch` or `step`, and `loss` and perhaps `bound`.
    """
    axis = "epoch" if all("epoch" in row for row in history) else "step"
    curves = {name: _curve(history, axis, name) for name in ("loss", "bound")}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if len(curves) == 2 and np.array_equal(curves["loss"], curves["bound"] * [1, -1]):
        del curves["bound"]  # an ELBO's loss is its bound with the sign turned
    figure = canvas(6.0, 2.4 * len(curves) + 1.2)
    for i, (name, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(len(curves), 1, i + 1)
        axes.plot(*curve.T, c=MODEL, lw=1.8)
        axes.set_ylabel(f"{name}, nats per datum", color=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes)
        if i == 0:
            axes.set_title("Training", **HEADING)
        if i == len(curves) - 1:
            axes.set_xlabel(axis, color=SOFT)
    return figure


def _histograms(
    flat: np.ndarray[Any, Any],
    data: np.ndarray[Any, Any] | None,
    title: str = "Dreams",
    name: str = "feature",
) -> Figure:
    shown = min(_FEATURES, flat.shape[1])
    columns = min(3, shown)
    rows = math.ceil(shown / columns)
    figure = canvas(max(4.5, 2.4 * columns), 2.1 * rows + 0.7)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    for i in range(shown):
        axes = figure.add_subplot(rows, columns, i + 1)
        both = flat[:, i] if data is None else np.concatenate([flat[:, i], data[:, i]])
        low, high = np.quantile(both, [0.002, 0.998])
        edges = np.linspace(low, high if high > low else low + 1.0, 31).tolist()
        if data is not None:
            other = "prior" if title == "Latents" else "data"
            axes.hist(data[:, i], edges, color=DATA, alpha=0.55, density=True, label=other)
        mine = "posterior" if title == "Latents" else "dreams"
        axes.hist(flat[:, i], edges, color=MODEL, histtype="step", lw=1.6, density=True, label=mine)
        plain(axes)
        axes.set_yticks([])
        axes.set_xlabel(f"{name} {i + 1}" if flat.shape[1] > 1 else name, fontsize=9, color=SOFT)
        if i == 0:
            legend(axes)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], axis: str, name: str) -> np.ndarray[Any, Any]:
    """Answer the finite points of a curve, `(n, 2)`."""
    points = [(row.get(axis, i), row.get(name, math.nan)) for i, row in enumerate(history)]
    curve = np.array([(x, math.nan if y is None else y) for x, y in points], dtype=float)
    finite: np.ndarray[Any, Any] = curve[np.isfinite(curve).all(1)]
    return finite
