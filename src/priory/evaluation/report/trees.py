"""Pictures of a tree of latents: what stands at its nodes, or where they stand among the codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.report.canvas import CLASSES, HEADING, INK, SOFT, canvas, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 64  # leaves that are drawn as images
_HALF, _APART = 0.46, 1.6  # half of an image's side, and levels' distance, in that of two leaves


@dataclass(frozen=True)
class Nodes:
    """A tree's nodes, from the root down, and rows of data that belong to them.

    Args:
        means: of the nodes of each level, `(nodes, latent)`, the root's first; siblings adjacent.
        parents: of the nodes of each level below the root, their number in the level above.
        images: the means of p(x | z) there, of each level, `(nodes, channels, height, width)`.
        codes: posterior means of rows, `(n, latent)`.
        leaf: the likeliest leaf of each row, `(n,)`.
    """

    means: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    images: tuple[Tensor, ...] = ()
    codes: Tensor | None = None
    leaf: Tensor | None = None


def tree(nodes: Nodes) -> Figure:
    """Draw the tree from the root down with an image at each node, or in the plane of the codes.

    Args:
        nodes: of the tree.
    """
    if nodes.images and len(nodes.means[-1]) <= _MOST:
        return _images(nodes.images, nodes.parents)
    return _plane(nodes)


def _images(levels: Sequence[Tensor], parents: Sequence[Tensor]) -> Figure:
    """Draw an image at each node, the children of a node below it."""
    leaves = len(levels[-1])
    figure = canvas(max(4.0, 0.4 * leaves), 0.4 * _APART * len(levels) + 0.4)
    axes = figure.add_subplot()
    axes.set_title("Tree: the mean of p(x | z) at the mean of each node", pad=8, **HEADING)
    low, high = float(levels[-1].min()), float(levels[-1].max())
    places = [np.arange(leaves) + 0.5]
    for above in reversed(parents):
        places.insert(0, np.bincount(above, places[0]) / np.bincount(above))
    for depth, (level, at) in enumerate(zip(levels, places, strict=True)):
        y = -_APART * depth
        for x, image in zip(at, level.permute(0, 2, 3, 1).double().numpy(), strict=True):
            shown = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
            where = (x - _HALF, x + _HALF, y - _HALF, y + _HALF)
            grey = shown[..., 0] if shown.shape[2] == 1 else shown
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=where, zorder=2)
        if depth:
            ends = [places[depth - 1][parents[depth - 1]], at]
            axes.plot(ends, [y + _APART, y], c=SOFT, lw=0.8, zorder=1)
    axes.set_xlim(0, leaves)
    axes.set_ylim(-_APART * (len(levels) - 1) - 0.6, 0.6)
    axes.set_axis_off()
    return figure


def _plane(nodes: Nodes) -> Figure:
    """Draw nodes and codes in two coordinates, or in principal components of the leaves."""
    leaves = nodes.means[-1].double()
    centre, basis = torch.zeros_like(leaves[0]), torch.eye(leaves.shape[1], 2).to(leaves)
    names, note = (
        ("$z_1$", "$z_2$"),
        "from the root to the leaves; colours by the first level",
    )
    if leaves.shape[1] > 2:
        centre = leaves.mean(0)
        basis = torch.linalg.svd(leaves - centre, full_matrices=False)[2][:2].mT
        names = ("first component", "second component")
    means = [((level.double() - centre) @ basis).numpy() for level in nodes.means]
    figure, axes = new_axes("Tree", *names, note=note, size=(6.0, 4.5))
    if nodes.codes is not None and nodes.leaf is not None:
        top = nodes.leaf
        for parents in reversed(nodes.parents[1:]):
            top = parents[top]
        colours = [CLASSES[k % len(CLASSES)] for k in top.tolist()]
        points = ((nodes.codes.double() - centre) @ basis).numpy()
        axes.scatter(*points.T, s=5, c=colours, alpha=0.5, linewidths=0, zorder=1)
    for depth, (above, level) in enumerate(pairwise(means), 1):
        starts = above[nodes.parents[depth - 1]]
        axes.plot(*np.stack([starts, level]).transpose(2, 0, 1), c=INK, lw=2 / depth, zorder=2)
        axes.scatter(*level.T, s=60 / depth**1.5, c=INK, linewidths=0, zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
    return figure
