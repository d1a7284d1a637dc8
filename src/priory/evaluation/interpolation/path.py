"""Ways from one point to another, and pictures of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from priory.evaluation.interpolation.points import codec_of

if TYPE_CHECKING:
    from priory.evaluation.sample_sets import Sets

_STREAM = 51


def lerp(a: Tensor, b: Tensor, steps: int | Tensor = 11) -> Tensor:
    r"""Straight ways, :math:`(1 - t) a + t b`.

    Args:
        a: starts, `(n, d)`.
        b: ends, `(n, d)`.
        steps: points on each way, evenly spaced and both ends included; or the times t, `(steps,)`.

    Returns:
        `(n, steps, d)`; at t = 0 and t = 1 the ends, bit for bit.
    """
    t = _times(steps, a)
    way = a.unsqueeze(1) * (1 - t) + b.unsqueeze(1) * t
    return _with_ends(way, a, b, t)


def slerp(a: Tensor, b: Tensor, steps: int | Tensor = 11) -> Tensor:
    r"""Ways along the great circle: the direction turns evenly, the norm changes evenly.

    .. math:: ((1 - t)|a| + t|b|) \, \frac{\sin((1 - t)\theta) \hat a + \sin(t\theta) \hat b}
        {\sin\theta}, \quad \cos\theta = \hat a \cdot \hat b

    Between points of equal norm it is Shoemake's, and keeps the norm: codes of a normal prior in
    many dimensions stay where its mass is. Parallel points are joined by the straight way, as is
    the origin with anything; antipodes by the half circle through a fixed direction at right angles
    to them.

    Shoemake 1985, Animating rotation with quaternion curves; White 2016, Sampling generative
    networks.

    Args:
        a: starts, `(n, d)`.
        b: ends, `(n, d)`.
        steps: as for `lerp`.

    Returns:
        `(n, steps, d)`; at t = 0 and t = 1 the ends, bit for bit.
    """
    t = _times(steps, a)
    norms = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = (
        x / norm.clamp_min(torch.finfo(x.dtype).tiny) for x, norm in zip((a, b), norms, strict=True)
    )
    cosine = (u * v).sum(-1, keepdim=True)
    across = v - cosine * u
    sine = across.norm(dim=-1, keepdim=True)
    small = 8 * torch.finfo(a.dtype).eps
    opposite = (sine < small) & (cosine < 0)
    side = torch.where(opposite, _right_angle(u), across / sine.clamp_min(small))
    angle = torch.where(opposite, torch.full_like(cosine, math.pi), torch.atan2(sine, cosine))
    turn = angle.unsqueeze(1) * t
    direction = turn.cos() * u.unsqueeze(1) + turn.sin() * side.unsqueeze(1)
    norm = norms[0].unsqueeze(1) * (1 - t) + norms[1].unsqueeze(1) * t
    straight = ((sine < small) & (cosine >= 0)) | (torch.minimum(*norms) == 0)
    way = torch.where(straight.unsqueeze(1), lerp(a, b, t.flatten()), norm * direction)
    return _with_ends(way, a, b, t)


def strips(draws: Sets, rows: int = 6, steps: int = 11) -> Tensor:
    """Interpolate between pairs of the data, of different classes where there are labels.

    The codes of two data are joined by `slerp`, the points on the way are decoded; of a generator
    without an encoder those of two samples. A latent whose values have a support of their own is
    moved in the coordinates of its `Codec`, by `lerp`, so that the whole way lies inside the
    support.

    Args:
        draws: of a pair with one latent site; to be called inside `sealed`.
        rows: pairs of data.
        steps: points on each way, with both ends, which are the reconstructions.

    Returns:
        Means of p(x | z), `(rows, steps, *shape)`, on the CPU.

    Raises:
        Unavailable: if the pair has no codes to move.
        ValueError: if a number is too small.
    """
    if rows < 1 or steps < 2:
        raise ValueError(f"strips need at least 1 row and 2 steps, got {rows} and {steps}")
    codec = codec_of(draws.model, draws.guide, draws.columns, draws.codes, seed=draws.seed)
    if codec.draw is not None:
        points = codec.draw(2 * rows)
    else:
        start, end = pairs(draws.n, rows, draws.columns.get("y"), draws.seed)
        points = codec.encode(draws.x[torch.cat([start, end]).to(draws.x.device)])
    way = (slerp if codec.straight else lerp)(points[:rows], points[rows:], steps)
    frames = codec.decode(way.flatten(0, 1))
    return frames.unflatten(0, (rows, steps)).cpu()


def pairs(n: int, rows: int, labels: Tensor | None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Choose pairs of rows at random, of different classes where there are labels.

    Every class comes up before one comes up again.

    Args:
        n: number of rows to choose from.
        rows: pairs wanted.
        labels: `(n,)`, if there are any.
        seed: seed of the choice.

    Returns:
        The rows where the ways start and where they end, each `(rows,)`.
    """
    stream = torch.Generator().manual_seed(seed * 100 + _STREAM)
    labels = torch.zeros(n) if labels is None else labels.cpu()
    classes = labels.unique()
    groups = (
        [torch.arange(n)] if len(classes) < 2 else [(labels == c).nonzero()[:, 0] for c in classes]
    )
    order: list[int] = []
    while len(order) < 2 * rows:
        turn = torch.randperm(len(groups), generator=stream).tolist()
        if order and len(groups) > 1 and order[-1] == turn[0]:
            turn.reverse()  # a way does not end in the class where it starts
        order += turn
    chosen: list[int] = []
    for group in order[: 2 * rows]:
        free = groups[group]
        pick = free[torch.randint(len(free), (1,), generator=stream)]
        if len(free) > 1 and chosen and int(pick) == chosen[-1]:
            pick = free[(free == pick).nonzero()[0, 0] - 1]
        chosen.append(int(pick))
    both = torch.tensor(chosen).reshape(rows, 2)
    return both[:, 0], both[:, 1]


def _times(steps: int | Tensor, like: Tensor) -> Tensor:
    """Return the times of the points, `(1, steps, 1)`."""
    if isinstance(steps, int):
        if steps < 2:
            raise ValueError(f"a way has at least 2 points, its ends; got steps={steps}")
        steps = torch.linspace(0, 1, steps, dtype=torch.float64)
    return steps.to(like).reshape(1, -1, 1)


def _with_ends(way: Tensor, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    way = torch.where(t == 0, a.unsqueeze(1), way)
    return torch.where(t == 1, b.unsqueeze(1), way)


def _right_angle(u: Tensor) -> Tensor:
    """Return for each unit vector one at right angles: the axis it is least along, made so."""
    axis = torch.zeros_like(u).scatter(-1, u.abs().argmin(-1, keepdim=True), 1.0)
    side = axis - (axis * u).sum(-1, keepdim=True) * u
    return side / side.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
