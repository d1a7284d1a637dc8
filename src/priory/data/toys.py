"""Toy sets in the plane: exact generators, and the true density where it is known."""

from __future__ import annotations

import itertools
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


def _along(curve: Callable[[Tensor], Tensor], sd: float) -> Mixture:
    """Return round noise around a curve, uniform in its parameter from 0 to 1: a fine mixture.

    The distances of 1,000 neighbours are a fifth of the noise's sd or less.
    """
    return Mixture(curve((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000), sd)


def _moons(u: Tensor) -> Tensor:
    """Return points of two half circles, the second for u above 1/2."""
    angle, moon = math.pi * (2 * u % 1), (u > 0.5).to(u)
    sign = 1 - 2 * moon
    return torch.stack([moon + sign * angle.cos(), 0.5 * moon + sign * angle.sin()], -1)


def _roll(u: Tensor) -> Tensor:
    """Return points of a spiral."""
    angle = 1.5 * math.pi * (1 + 2 * u)
    return torch.stack([angle * angle.cos(), angle * angle.sin()], -1) / 10


def _pinwheel_log_prob(x: Tensor) -> Tensor:
    r"""Return the pinwheel's log density, by its change of variables.

    .. math:: x = 2 R(\theta_m(a)) (a, c), \quad \theta_m(a) = 2 \pi m / 5 + e^a / 4, \qquad
        p(x) = \frac{1}{5} \sum_m \sum_{(a, c)} \frac{N(a; 1, 0.3^2) N(c; 0, 0.1^2)}
        {4 \, |1 - \theta'(a) c|}

    over all (a, c) that are mapped to x: roots of a scalar function, found by bisection.
    """
    half = x.double().unsqueeze(-2) / 2
    turn = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5

    def excess(a: Tensor) -> Tensor:
        """Return how much x / 2 is longer than a, along arm m's direction at a."""
        angle = turn + a.exp() / 4
        return half[..., 0] * angle.cos() + half[..., 1] * angle.sin() - a

    total = x.new_zeros(x.shape[:-1], dtype=torch.float64)
    ticks = torch.linspace(-1.5, 3.5, 101, dtype=torch.float64)
    before = excess(ticks[0].expand(5))
    for low, high in itertools.pairwise(ticks):
        after = excess(high.expand(5))
        crossed = (before > 0) != (after > 0)
        before = after
        if not crossed.any():
            continue
        left, right = low.expand(crossed.shape), high.expand(crossed.shape)
        down = excess(left) > 0
        for _ in range(50):
            middle = (left + right) / 2
            inner = (excess(middle) > 0) == down
            left, right = torch.where(inner, middle, left), torch.where(inner, right, middle)
        a = (left + right) / 2
        rate = a.exp() / 4
        angle = turn + rate
        c = half[..., 1] * angle.cos() - half[..., 0] * angle.sin()
        log_p = -0.5 * (((a - 1) / 0.3).square() + (c / 0.1).square())
        density = log_p.exp() / (2 * math.pi * 0.03 * 4 * (1 - rate * c).abs())
        total = total + torch.where(crossed, density, 0.0).sum(-1) / 5
    return total.log()


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
        density: the true mixture, of one whose modes are counted.
        log_prob: the true log density of points of shape (*batch, dims), in nats.
        entropy: that of the true density in nats, by quadrature, to a thousandth.
    """

    name: str
    draw: Callable[[int, np.random.Generator], Points]
    density: Mixture | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    entropy: float | None = None

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
    Toy("ring", RING.draw, RING, RING.log_prob, -4.2929),
    Toy("grid", GRID.draw, GRID, GRID.log_prob, 0.0653),
    Toy("pinwheel", _pinwheel, None, _pinwheel_log_prob, 2.318),
    Toy("two-moons", _two_moons, None, _along(_moons, 0.1).log_prob, 1.007),
    Toy("swiss-roll", _swiss_roll, None, _along(_roll, 0.05).log_prob, 0.581),
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
