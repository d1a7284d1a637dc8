"""Toy sets in the plane: exact generators, and the true density where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.sets import DataSet, Parts

Points = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""A mixture of equally likely round Gaussians.

    $$p(x) = \frac{1}{M} \sum_{m=1}^{M} \mathcal{N}(x; c_m, \sigma^2 I)$$

    Args:
        centres: the modes' centres, of shape (modes, dims).
        sd: standard deviation of every mode.

    Example:
        >>> RING.centres.shape
        torch.Size([8, 2])
    """

    centres: Tensor
    sd: float

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density in nats.

        Args:
            x: points of shape (*batch, dims).

        Returns:
            Log densities of shape (*batch,).
        """
        centres = self.centres.to(x)
        modes, dims = centres.shape
        squares = (x.unsqueeze(-2) - centres).square().sum(-1) / self.sd**2
        constant = math.log(modes) + dims * math.log(self.sd * math.sqrt(2 * math.pi))
        return torch.logsumexp(-0.5 * squares, -1) - constant

    def draw(self, rows: int, rng: np.random.Generator) -> Points:
        """Draw points of shape (rows, dims) and the numbers of their modes."""
        centres = self.centres.numpy()
        mode = rng.integers(len(centres), size=rows)
        return centres[mode] + self.sd * rng.standard_normal((rows, centres.shape[1])), mode


def _pinwheel(rows: int, rng: np.random.Generator) -> Points:
    """Draw five bent arms, after Johnson et al. (2016), Composing graphical models."""
    arms, rate = 5, 0.25
    arm = rng.integers(arms, size=rows)
    along = 1 + 0.3 * rng.standard_normal(rows)
    across = 0.1 * rng.standard_normal(rows)
    angle = 2 * np.pi * arm / arms + rate * np.exp(along)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2 * np.stack([along * cos - across * sin, along * sin + across * cos], 1), arm


def _two_moons(rows: int, rng: np.random.Generator) -> Points:
    """Draw two half circles of radius 1 that reach into each other, with noise of sd 0.1."""
    moon = rng.integers(2, size=rows)
    angle = np.pi * rng.random(rows)
    sign = 1 - 2 * moon
    x = np.stack([moon + sign * np.cos(angle), 0.5 * moon + sign * np.sin(angle)], 1)
    return x + 0.1 * rng.standard_normal((rows, 2)), moon


def _swiss_roll(rows: int, rng: np.random.Generator) -> Points:
    """Draw the section of a roll, as in Sohl-Dickstein et al. (2015), a tenth of the size."""
    angle = 1.5 * np.pi * (1 + 2 * rng.random(rows))
    x = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1)
    return (x + 0.5 * rng.standard_normal((rows, 2))) / 10, (angle > 3 * np.pi).astype(np.int64)


_TAU, _CHILDREN = (4.0, 2.0, 0.7), 3  # of a tree, at each level
_TOGETHER = 10  # rows of a group

_angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
_ticks = torch.arange(-4, 5, 2, dtype=torch.float64)

RING = Mixture(torch.stack([_angles.cos(), _angles.sin()], 1), 0.01)
"""Eight modes on the circle of radius 1, sd 0.01: entropy -4.293 nats."""

GRID = Mixture(torch.cartesian_prod(_ticks, _ticks), 0.05)
"""Twenty-five modes at {-4, -2, 0, 2, 4} squared, sd 0.05: entropy 0.0653 nats."""


@dataclass(frozen=True)
class Toy(DataSet):
    """A row of the table of toy sets.

    Args:
        name: by which it is asked for.
        draw: draws points of shape (rows, dims), and labels of shape (rows,).
        density: the true density, where it is known.
    """

    name: str
    draw: Callable[[int, np.random.Generator], Points]
    density: Mixture | None = None

    def points(self, rows: int, *, seed: int = 0, stream: int = 0) -> Points:
        """Draw points, and for each the number of its mode, arm, moon or turn.

        Args:
            rows: number of points.
            seed: seed of the draw.
            stream: number of the split, so that splits are independent.
        """
        return self.draw(rows, np.random.default_rng((seed, stream)))

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts, drawn independently.

        Args:
            valid: validation rows, 1,000 by default.
            rows: training rows, 10,000 by default; the test always has 10,000.
            seed: seed of the draws.
        """
        counts = {
            "train": 10_000 if rows is None else rows,
            "valid": 1_000 if valid is None else valid,
            "test": 10_000,
        }
        parts: Parts = {}
        for stream, (part, count) in enumerate(counts.items()):
            x, y = self.points(count, seed=seed, stream=stream)
            parts[part] = {"x": x, "y": y}
        return parts


TOYS = (
    Toy("ring", RING.draw, RING),
    Toy("grid", GRID.draw, GRID),
    Toy("pinwheel", _pinwheel),
    Toy("two-moons", _two_moons),
    Toy("swiss-roll", _swiss_roll),
)


@dataclass(frozen=True)
class Tree(DataSet):
    r"""Clusters of clusters: the leaves of a drawn tree, mapped to more dimensions.

    .. math:: m_c \sim N(m_{\mathrm{parent}(c)}, \tau_l^2), \quad z \sim N(m_c, 0.3^2), \quad
        x = \tanh(z A + b) B + e, \quad e \sim N(0, 0.1^2)

    Three levels of three children each, with :math:`\tau` 4, 2 and 0.7, 27 equally likely leaves in
    all, some of which overlap; 50 hidden units, 20 columns. `y` is the leaf, and `path`, (rows, 3),
    the number of a row's node at each level. Ten rows after each other are a `group`, which has one
    leaf. Another seed draws another tree and another map.

    Args:
        name: by which it is asked for.
        dims: of z; in the plane nodes of one level often lie among each other.
    """

    name: str = "tree"
    dims: int = 2

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts, drawn independently.

        Args:
            valid: validation rows, 1,000 by default.
            rows: training rows, 3,000 by default; the test always has 3,000.
            seed: seed of the tree, the map and the rows.
        """
        counts = {
            "train": 3_000 if rows is None else rows,
            "valid": 1_000 if valid is None else valid,
            "test": 3_000,
        }
        (*_, means), rng = self._drawn(seed)
        first, bias = 0.25 * rng.standard_normal((self.dims, 50)), rng.standard_normal(50)
        last = rng.standard_normal((50, 20)) / 50**0.5
        parts: Parts = {}
        for stream, (part, count) in enumerate(counts.items()):
            rng = np.random.default_rng((seed, stream))
            group = np.arange(count) // _TOGETHER
            leaf = rng.integers(len(means), size=-(-count // _TOGETHER))[group]
            z = means[leaf] + 0.3 * rng.standard_normal((count, self.dims))
            x = np.tanh(z @ first + bias) @ last + 0.1 * rng.standard_normal((count, 20))
            path = leaf[:, None] // _CHILDREN ** np.arange(len(_TAU))[::-1]
            parts[part] = {"x": x, "y": leaf, "path": path, "group": group}
        return parts

    def nodes(self, seed: int) -> list[NDArray[np.float64]]:
        """Return the true means of the nodes, (nodes, dims), of each level below the root.

        Args:
            seed: seed of the tree.
        """
        return self._drawn(seed)[0]

    def _drawn(self, seed: int) -> tuple[list[NDArray[np.float64]], np.random.Generator]:
        """Return the nodes of each level, and the generator that goes on to the map."""
        rng = np.random.default_rng((seed, 3))
        levels, means = [], np.zeros((1, self.dims))
        for tau in _TAU:
            means = means.repeat(_CHILDREN, 0)
            means = means + tau * rng.standard_normal(means.shape)
            levels.append(means)
        return levels, rng


TREES = (Tree(), Tree("tree-4d", 4))

DENSITIES: dict[str, Mixture] = {row.name: row.density for row in TOYS if row.density is not None}
"""The true densities of the toy sets for which it is known, by name."""


def toy(name: str, rows: int, *, seed: int = 0, stream: int = 0) -> Points:
    """Draw a toy set.

    Args:
        name: a toy set's.
        rows: number of points.
        seed: seed of the draw.
        stream: number of the split, so that splits are independent.

    Returns:
        Points of shape (rows, 2), and for each the number of its mode, arm, moon or turn.

    Example:
        >>> x, mode = toy("ring", 100)
        >>> x.shape
        (100, 2)
    """
    return {row.name: row for row in TOYS}[name].points(rows, seed=seed, stream=stream)
