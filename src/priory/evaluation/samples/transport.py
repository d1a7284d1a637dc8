"""Transport between samples and data, with errors from the potentials of the transport."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric, of_equal_size, units_of
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples.pairwise import check_sets, stream

_ASSIGNED = 500  # rows of each set: an assignment's cost grows with the cube
_DIRECTIONS = 100  # at a time
_STREAM = 31  # the random stream of directions
_TOLERANCE = 1e-12


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def sliced_wasserstein(draws: Sets) -> Estimate:
    """Squared Wasserstein-2 distance between samples and data, averaged over directions."""
    real, generated = of_equal_size(draws)
    value, se = sliced_wasserstein2(generated, real, stream(draws.seed, _STREAM))
    sizes = f"{len(generated)} samples against {len(real)} data"
    note = f"squared; {sizes}; above 0 under equal distributions"
    return Estimate(value, se, len(real), "biased", note=note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def wasserstein(draws: Sets) -> Estimate:
    """Squared Wasserstein-2 distance between samples and data, by an exact assignment."""
    real, generated = of_equal_size(draws, _ASSIGNED)
    value, se = wasserstein2(generated, real)
    note = (
        f"squared; {len(generated)} samples against {len(real)} data; far above 0 under equal "
        "distributions: read it beside its anchors"
    )
    return Estimate(value, se, len(real), "biased", note=note)


def sliced_wasserstein2(
    a: Tensor, b: Tensor, generator: torch.Generator, projections: int = 500
) -> tuple[float, float]:
    r"""Return the squared sliced Wasserstein-2 distance between two sets, and its error.

    .. math:: E_u W_2^2(u \cdot a, u \cdot b), \quad |u| = 1

    Between finite sets of equal distributions it is above 0. The error has two parts: the spread
    over the directions, and that over the samples, which is the variance of the transport's
    potentials averaged over the directions. Where the distributions are equal, the second part is
    small but not the whole truth: the value is then its own bias.

    Bonneel, Rabin, Peyre and Pfister 2015, Sliced and Radon Wasserstein Barycenters of Measures;
    del Barrio and Loubes 2019, Central limit theorems for empirical transportation cost.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
        generator: of the directions, on the CPU.
        projections: number of directions.

    Raises:
        Unavailable: if a set has fewer than 2 rows, or the widths of the rows differ.
        ValueError: if there are fewer than 2 projections.
    """
    a, b = check_sets(a, b, least=2)
    if projections < 2:
        raise ValueError(f"projections must be at least 2, got {projections}")
    centre = b.mean(0)
    a, b = a - centre, b - centre
    directions = torch.randn(a.shape[1], projections, generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=0)).to(a)
    cells = _cells(len(a), len(b), a)
    costs, first, second = [], a.new_zeros(len(a)), b.new_zeros(len(b))
    for u in directions.split(_DIRECTIONS, 1):
        (on_a, order_a), (on_b, order_b) = (a @ u).sort(0), (b @ u).sort(0)
        width, row_a, row_b = cells
        costs.append(((on_a[row_a] - on_b[row_b]).square() * width).sum(0))
        first += _potential(on_a, order_a, len(a) * _gather(on_b[row_b] * width, row_a, on_a))
        second += _potential(on_b, order_b, len(b) * _gather(on_a[row_a] * width, row_b, on_b))
    cost = torch.cat(costs)
    spread = (first / projections).var() / len(a) + (second / projections).var() / len(b)
    return float(cost.mean()), math.sqrt(float(spread + cost.var() / projections))


def wasserstein2(a: Tensor, b: Tensor) -> tuple[float, float]:
    r"""Return the squared Wasserstein-2 distance between two sets of one size, and its error.

    .. math:: \min_\sigma \frac{1}{n} \sum_i |a_i - b_{\sigma(i)}|^2
        = \max_{f_i + g_j \le |a_i - b_j|^2} \frac{1}{n} \sum_i f_i + g_i

    The assignment is exact; as an estimate of the distance between the distributions it is far too
    large in more than a few dimensions. The error is the variance of the dual potentials f and g.

    del Barrio and Loubes 2019, Central limit theorems for empirical transportation cost.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(n, d)`.

    Raises:
        Unavailable: if a set has fewer than 2 rows, the shapes differ, or a distance is infinite.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = check_sets(a, b, least=2)
    if len(a) != len(b):
        raise Unavailable(f"an assignment needs two sets of one size, got {len(a)} and {len(b)}")
    cost = squared_distances(a, b).cpu()
    try:
        rows, columns = linear_sum_assignment(cost.numpy())
    except ValueError as error:  # a distance that overflows
        raise Unavailable(str(error)) from error
    matched = cost[:, torch.as_tensor(columns)]
    f, g = potentials(matched)
    value = float(matched[torch.as_tensor(rows), torch.as_tensor(rows)].mean())
    return value, math.sqrt(float(f.var() + g.var()) / len(a))


def potentials(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Return dual potentials of an optimal assignment, by shortest paths.

    Args:
        cost: of every pair, the columns in the order in which they are assigned to the rows,
            `(n, n)`.

    Returns:
        f and g, `(n,)` each: f_i + g_j <= cost_ij, with equality where i = j.
    """
    own = cost.diagonal()
    steps = cost - own.unsqueeze(1)
    g = torch.zeros_like(own)
    slack = _TOLERANCE * (1.0 + float(cost.abs().max()))
    for _ in range(len(cost)):
        shorter = torch.minimum(g, (g.unsqueeze(1) + steps).amin(0))
        done = bool((g - shorter <= slack).all())
        g = shorter
        if done:
            break
    return own - g, g


def _cells(n: int, m: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the stairs on which two quantile functions are constant: widths, rows, rows."""
    steps = [torch.arange(1, size + 1, dtype=torch.float64) / size for size in (n, m)]
    ends = torch.cat(steps).sort().values
    width = ends.diff(prepend=ends.new_zeros(1))
    middle = ends - 0.5 * width
    rows = [(middle * size).long().clamp(max=size - 1).to(like.device) for size in (n, m)]
    return width.to(like).unsqueeze(1), rows[0], rows[1]


def _gather(mass: Tensor, row: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).index_add_(0, row, mass)


def _potential(x: Tensor, order: Tensor, target: Tensor) -> Tensor:
    """Integrate 2 (x - T(x)) along each direction, and sum over them in the rows' own order."""
    slope = x - target
    rises = x.diff(dim=0) * (slope[1:] + slope[:-1])
    potential = torch.cat([torch.zeros_like(x[:1]), rises.cumsum(0)])
    potential = potential - potential.mean(0)
    return torch.zeros_like(x).scatter_(0, order, potential).sum(1)
