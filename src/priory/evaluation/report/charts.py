"""Charts of a pair: its latents, calibration, per-datum bounds and training."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.report.canvas import (
    CLASSES,
    DATA,
    HEADING,
    INK,
    MODEL,
    PRIOR,
    SOFT,
    canvas,
    legend,
    new_axes,
    plain,
)
from priory.inference.selection import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEATURES = 6
_GRID = 100  # points at which a calibration curve is drawn
_SIMULATIONS = 10000  # of calibrated ranks, behind the band
_CORNER: dict[str, Any] = {"loc": "upper right", "ncols": 2, "frameon": False, "fontsize": 9}


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
        of = f"2 of {mean.shape[1]} principal components"
        note = f"posterior means: {of}, {share:.0%} of the variance"
    if z.shape[1] == 1:
        return histograms(z.numpy(), None if other is None else other.numpy(), "Latents", "z")
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
    axes.set_aspect("equal", adjustable="datalim")
    legend(axes, outside=True)
    return figure


def calibration(ranks: Tensor, levels: int, names: Sequence[str] = ()) -> Figure:
    """Draw how far each latent dimension's ranks are from uniform, with a simultaneous 95% band.

    A curve is the empirical distribution function of a dimension's ranks less the uniform one's.
    The band holds all dimensions' whole curves with probability 95% if they are calibrated; its
    width is found by simulation.

    References: Säilynoja, Bürkner, Vehtari, Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison, 2022.

    Args:
        ranks: integers in 0..levels, `(n, latent)`.
        levels: posterior draws per datum.
        names: of the latent dimensions; z_1 and so on if empty.
    """
    n, latent = ranks.shape
    cuts = np.unique(np.linspace(0, levels, min(levels, _GRID) + 1).round().astype(int))[:-1]
    expected = (cuts + 1) / (levels + 1)
    below = (ranks.numpy()[:, :, None] <= cuts).mean(0) - expected  # (latent, cuts)
    low, high = uniform_band(n, expected, 0.95 ** (1.0 / latent))  # as if independent
    outside = ((below < low - 1e-9) | (below > high + 1e-9)).any(1)
    worst = sorted(np.flatnonzero(outside).tolist(), key=lambda i: -float(np.abs(below[i]).max()))
    dimensions = "dimension" if latent == 1 else "dimensions"
    leave = "leaves" if outside.sum() == 1 else "leave"
    note = f"{int(outside.sum())} of {latent} {dimensions} {leave} the band; {n:,} samples"
    figure, axes = new_axes(
        "Calibration", "rank of the true z among draws of the guide, as a share",
        "share of ranks below, less the uniform", note=note,
    )  # fmt: skip
    x = np.concatenate([[0.0], expected, [1.0]])
    edge = np.zeros(1)
    band = [np.concatenate([edge, side, edge]) for side in (low, high)]
    axes.fill_between(x, *band, color=PRIOR, alpha=0.45, lw=0, label="95% band")
    axes.axhline(0.0, c=SOFT, lw=0.8, ls="--")
    for i in range(latent):
        named = i in worst[: len(CLASSES) - 4]
        style: dict[str, Any] = {"c": DATA, "lw": 0.9, "alpha": 0.7, "zorder": 2}
        if named:
            colour = CLASSES[worst.index(i)]
            name = names[i] if names else f"$z_{{{i + 1}}}$"
            style = {"c": colour, "lw": 1.6, "zorder": 3, "label": name}
        axes.plot(x, np.concatenate([edge, below[i], edge]), **style)
    axes.set_xlim(0.0, 1.0)
    legend(axes, outside=True)
    return figure


def uniform_band(
    n: int, expected: np.ndarray[Any, Any], level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the band that holds a whole empirical distribution function of uniform ranks.

    At each point it has the binomial quantiles of one and the same level, which is so chosen that
    a share `level` of simulated functions lies within the band at all points.

    Args:
        n: number of ranks.
        expected: the uniform distribution function at the points, increasing within (0, 1).
        level: probability of the band.
        seed: of the simulation.

    Returns:
        Lower and upper ends less `expected`, as long as `expected`.
    """
    from scipy.stats import binom

    tail = _pointwise(n, tuple(expected.tolist()), level, seed)
    low, high = binom.ppf(tail, n, expected), binom.isf(tail, n, expected)
    return low / n - expected, high / n - expected


@functools.lru_cache(maxsize=16)  # a comparison draws many runs with the same band
def _pointwise(n: int, expected: tuple[float, ...], level: float, seed: int) -> float:
    """Return the probability of either tail at each point, of a band of a level."""
    from scipy.stats import binom

    stream = np.random.default_rng(seed)
    shares = np.diff(np.array([0.0, *expected, 1.0]))
    counts = stream.multinomial(n, shares, size=_SIMULATIONS)[:, :-1].cumsum(1)
    below = binom.cdf(np.arange(-1, n + 1)[:, None], n, expected)  # by count - 1, and point
    point = np.arange(len(expected))
    tails = np.minimum(below[counts + 1, point], 1.0 - below[counts, point])
    return float(np.quantile(tails.min(1), 1.0 - level, method="lower"))


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


def information_plane(points: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw what codes tell of labels over what they tell of data, the most informative last.

    Args:
        points: I(z; x) and I(z; y) by label, in nats.
    """
    figure, axes = new_axes("Information plane", "I(z; x) at most, nats", "I(z; y) at least, nats")
    order = sorted(points, key=lambda label: points[label])
    axes.plot(*zip(*(points[label] for label in order), strict=True), c=PRIOR, lw=1.2, zorder=1)
    for n, label in enumerate(order):
        axes.scatter(*points[label], color=CLASSES[n % len(CLASSES)], s=30, label=label)
    legend(axes, outside=True)
    return figure


def training(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the training's loss, its bound, which goes up, and what it is judged by, by epoch.

    Args:
        history: records with `epoch` or `step`, and `loss`, and perhaps `bound`, the metric by
            which the best weights, marked by a line, are chosen, layers' KL and multipliers; a
            dotted line marks where a `stage` ends.
    """
    from matplotlib.ticker import MaxNLocator

    axis = "epoch" if all("epoch" in row for row in history) else "step"
    nats = dict.fromkeys(("loss", "bound"), ", nats per datum")
    others = dict.fromkeys(name for row in history for name in figures(row))
    curves = {name: _curve(history, axis, name) for name in (*nats, *others)}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    both = {*nats} <= {*curves}
    if both and np.array_equal(curves["loss"], curves["bound"] * [1, -1]):
        del curves["bound"]  # an ELBO's loss is its bound with the sign turned
    best = next((row[axis] for row in reversed(history) if row.get("best")), None)
    ends = {row["stage"]: row[axis] for row in history if "stage" in row}
    figure = canvas(5.0, 2.0 * len(curves) + 1.2)
    for i, (name, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(len(curves), 1, i + 1)
        axes.plot(*curve.T, c=MODEL, lw=1.8)
        for end in ends.values():
            axes.axvline(end, c=SOFT, lw=1.0, ls=":", zorder=1)
        if best is not None:
            axes.axvline(best, c=PRIOR, lw=1.2, ls="--", zorder=1)
        axes.set_ylabel(name.replace("_", " ") + nats.get(name, ""), color=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        plain(axes)
        if i == 0:
            axes.set_title("Training", **HEADING)
        if i == len(curves) - 1:
            axes.set_xlabel(axis, color=SOFT)
    return figure


def histograms(
    flat: np.ndarray[Any, Any],
    data: np.ndarray[Any, Any] | None,
    title: str = "Samples",
    name: str = "feature",
) -> Figure:
    """Draw histograms of the first features of two sets above each other.

    Args:
        flat: generated samples, or posterior means, `(n, features)`.
        data: what to show behind them, `(m, features)`.
        title: Samples or Latents.
        name: what a feature is called.
    """
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
        mine = "posterior" if title == "Latents" else "samples"
        axes.hist(flat[:, i], edges, color=MODEL, histtype="step", lw=1.6, density=True, label=mine)
        plain(axes)
        axes.set_yticks([])
        axes.set_xlabel(f"{name} {i + 1}" if flat.shape[1] > 1 else name, fontsize=9, color=SOFT)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), **_CORNER)
    return figure


def small_multiples(
    sets: Mapping[str, np.ndarray[Any, Any]], data: np.ndarray[Any, Any] | None, title: str
) -> Figure:
    """Draw sets of samples side by side on the same scale, each over the data.

    Args:
        sets: samples `(n, features)` by name; of more than two features the first two are drawn.
        data: rows to show behind each, `(m, features)`; they set the scale.
        title: of the whole.
    """
    columns = min(4, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure = canvas(2.3 * columns, 2.3 * rows + 0.5)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.02, ha="left")
    scale = np.concatenate([*sets.values()]) if data is None else data
    low, high = scale.min(0), scale.max(0)
    low, high = low - 0.25 * (high - low), high + 0.25 * (high - low)
    for i, (name, x) in enumerate(sets.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        plain(axes)
        axes.set_title(name, fontsize=9.5, color=SOFT)
        axes.set_xlim(low[0], high[0])
        if x.shape[1] == 1:
            edges = np.linspace(low[0], high[0], 41).tolist()
            if data is not None:
                axes.hist(data[:, 0], edges, color=DATA, alpha=0.55, density=True)
            axes.hist(x[:, 0], edges, color=MODEL, histtype="step", lw=1.4, density=True)
            axes.set_yticks([])
            continue
        axes.set_ylim(low[1], high[1])
        axes.set_xticks([])
        axes.set_yticks([])
        if data is not None:
            axes.scatter(data[:, 0], data[:, 1], s=3, c=PRIOR, linewidths=0)
        axes.scatter(x[:, 0], x[:, 1], s=3, c=MODEL, alpha=0.7, linewidths=0)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], axis: str, name: str) -> np.ndarray[Any, Any]:
    """Return the finite points of a curve, `(n, 2)`."""
    points = [(row.get(axis, i), row.get(name, math.nan)) for i, row in enumerate(history)]
    curve = np.array([(x, math.nan if y is None else y) for x, y in points], dtype=float)
    finite: np.ndarray[Any, Any] = curve[np.isfinite(curve).all(1)]
    return finite
