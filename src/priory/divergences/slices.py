"""Transport along lines: over random directions, and along the direction that separates most."""

import torch
from torch import Tensor

from priory.divergences.pairwise import product, sample_sets


def sliced(
    a: Tensor, b: Tensor, projections: int = 100, generator: torch.Generator | None = None
) -> Tensor:
    r"""Return the sliced squared Wasserstein-2 distance, over random directions.

    .. math:: E_u W_2^2(u \cdot a, u \cdot b), \quad |u| = 1

    Bonneel et al., 2015, Sliced and Radon Wasserstein barycenters of measures; Kolouri et al.,
    2018, Sliced-Wasserstein autoencoder. In one dimension the distance is between quantile
    functions, which are stairs, so that sets of unlike sizes are compared exactly.

    Args:
        a: Samples, (n, d).
        b: Samples, (m, d).
        projections: Number of directions.
        generator: Of the directions; torch's global one if None.

    Raises:
        ValueError: The shapes don't fit, or there is no projection.
    """
    a, b = sample_sets(a, b)
    if projections < 1:
        raise ValueError(f"projections must be positive, got {projections}")
    return along(a, b, _unit(_directions(a, projections, generator))).mean()


def max_sliced(
    a: Tensor,
    b: Tensor,
    starts: int = 8,
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the max-sliced squared Wasserstein-2 distance, in the direction that separates most.

    .. math:: \max_u W_2^2(u \cdot a, u \cdot b), \quad |u| = 1

    Deshpande et al., 2019, Max-sliced Wasserstein distance and its use for GANs. Several directions
    climb from random starts, one from the difference of the means, and the best is taken: a lower
    bound of the maximum. The direction carries no gradient, and needs none at the maximum.

    Args:
        a: Samples, (n, d).
        b: Samples, (m, d).
        starts: Number of directions that climb.
        steps: Steps of the climb.
        generator: Of the random starts; torch's global one if None.

    Raises:
        ValueError: The shapes don't fit, or `starts` or `steps` isn't positive.
    """
    a, b = sample_sets(a, b)
    if starts < 1 or steps < 1:
        raise ValueError(f"starts and steps must be positive, got {starts} and {steps}")
    x, y = a.detach(), b.detach()
    shift = (x.mean(0) - y.mean(0)).unsqueeze(1)
    u = _unit(torch.cat([shift, _directions(x, starts - 1, generator)], 1))
    for i in range(steps):
        with torch.enable_grad():
            u.requires_grad_()
            (slope,) = torch.autograd.grad(along(x, y, u).sum(), u)
        rate = min(1.0, 2 - 2 * i / steps)  # smaller at last: the maximum may be at a kink
        u = _unit(u.detach() + rate * _unit(slope))
    return along(a, b, u).max()


def along(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    """Return the squared Wasserstein-2 distances of two sets' projections, (directions,).

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
        u: directions, (d, directions).
    """
    first, second = product(a, u).sort(0).values, product(b, u).sort(0).values
    n, m = len(a), len(b)
    if n == m:
        return (first - second).square().mean(0)
    steps_a = torch.arange(1, n + 1, device=a.device, dtype=torch.float64) / n
    steps_b = torch.arange(1, m + 1, device=a.device, dtype=torch.float64) / m
    ends = torch.cat([steps_a, steps_b]).sort().values
    widths = ends.diff(prepend=ends.new_zeros(1))
    middle = ends - 0.5 * widths
    rows = (middle * n).long().clamp(max=n - 1), (middle * m).long().clamp(max=m - 1)
    squares = (first[rows[0]] - second[rows[1]]).square()
    return (squares * widths.to(a.dtype).unsqueeze(1)).sum(0)


def _directions(like: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    shape = like.shape[1], count
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _unit(u: Tensor) -> Tensor:
    """Return columns of length 1, or 0 where they are 0."""
    return u / u.norm(dim=0).clamp(min=torch.finfo(u.dtype).tiny)
