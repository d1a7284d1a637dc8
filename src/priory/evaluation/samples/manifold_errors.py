"""Standard errors of precision, recall, density and coverage, whose samples share their balls."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.columns import thin
from priory.evaluation.samples.pairwise import check_sets, nearest

_ROWS = 1000  # of each set, at most
_DIVISIONS = 24
_SHOWN = 8  # neighbours looked at for each that is needed: half of them are of the own half


class Errors(NamedTuple):
    """Standard errors of the four means; 0 where no division of the sets moves one of them.

    Args:
        precision: of the share of dreams that lie in a ball of the data.
        recall: of the share of data that lie in a ball of the dreams.
        density: of the mean number of the data's balls that a dream lies in, over k.
        coverage: of the share of the data's balls that hold a dream.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_errors(
    real: Tensor,
    dreams: Tensor,
    generator: torch.Generator,
    k: int = 5,
    divisions: int = _DIVISIONS,
) -> Errors | None:
    r"""Answer the standard errors of `manifold`, with both sets drawn anew.

    Given the balls, what lies in them is drawn independently; the balls are not, as one sample
    shapes those of its neighbours. So the variance of precision, recall and density has two parts,

    .. math:: \mathrm{Var}\,T = \mathbb{E}\,\mathrm{Var}(T \mid \text{balls})
        + \mathrm{Var}\,\mathbb{E}(T \mid \text{balls}).

    The first is that of independent samples. The second, and the whole of coverage's, is a quarter
    of the mean square of the difference between halves of the sets, less what the samples within
    the balls add to it, over random divisions: halves are independent, and the variance of a mean
    of local terms is inversely proportional to its rows. By simulation it is within a tenth, and
    up to a quarter too small where a few far samples carry the balls.

    Args:
        real: features of the data, `(n, d)`.
        dreams: features of the dreams, `(m, d)`.
        generator: of the divisions, on the CPU.
        k: neighbours.
        divisions: of the sets in halves, at random.

    Returns:
        The errors; `None` where a half would have no more than k rows.

    Raises:
        ValueError: if the widths of the rows differ.
    """
    real, dreams = check_sets(real, dreams)
    if min(len(real), len(dreams)) < 2 * (k + 1):
        return None
    sizes = len(real), len(dreams)
    real, dreams = (thin({"x": x}, _ROWS)["x"] for x in (real, dreams))
    centre = real.mean(0)
    real, dreams = real - centre, dreams - centre
    halves = [
        (_halves(len(real), generator), _halves(len(dreams), generator)) for _ in range(divisions)
    ]
    squares = squared_distances(real, dreams).float()
    of_data = _variances(real, squares, halves, k)
    of_dreams = _variances(dreams, squares.T, [(b, a) for a, b in halves], k)
    used = min(len(real) / sizes[0], len(dreams) / sizes[1])
    errors = (of_data[0], of_dreams[0], of_data[1], of_data[2])
    return Errors(*(math.sqrt(max(0.0, variance) * used) for variance in errors))


def _halves(n: int, generator: torch.Generator) -> Tensor:
    """Divide n rows in two, at random: 0 or 1 for each."""
    return torch.randperm(n, generator=generator) % 2


def _variances(
    x: Tensor, squares: Tensor, halves: list[tuple[Tensor, Tensor]], k: int
) -> tuple[float, float, float]:
    """Answer the variances of the share in a ball of x, the number of balls, the balls that hold.

    Args:
        x: the balls' centres, `(n, d)`.
        squares: squared distances to the other set, `(n, m)`.
        halves: divisions of x and of the other set.
        k: neighbours.
    """
    shown = min(len(x) - 1, _SHOWN * (k + 1))
    near = nearest(x, x, shown, own=True)
    reach = near.distance.square().float()
    inside = (squares <= reach[:, k - 1 : k]).sum(0).float()
    m = len(inside)
    shared = torch.zeros(3, dtype=torch.float64)
    for own, other in halves:
        place = ((own[near.row] == own.unsqueeze(1)).cumsum(1) < k).sum(1)
        far = reach.gather(1, place.clamp_max(shown - 1).unsqueeze(1))
        held = (squares <= far).float()
        first, second = (torch.nn.functional.one_hot(h, 2).float() for h in (own, other))
        balls = first.T @ held
        for row, values in enumerate(((balls > 0).float(), balls / k)):
            gap = values[0] - values[1]
            shared[row] += float(gap.mean().square() - gap.var() / m)
        holds = ((held @ second).gather(1, own.unsqueeze(1))[:, 0] > 0).float()
        one, two = (first.T @ holds / first.sum(0)).tolist()
        shared[2] += (one - two) ** 2
    shared = (shared / (4 * len(halves))).clamp_min(0.0)
    within = torch.stack([(inside > 0).float().var() / m, (inside / k).var() / m]).double()
    found = (shared + torch.cat([within, within.new_zeros(1)])).tolist()
    return found[0], found[1], found[2]
