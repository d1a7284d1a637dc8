"""Divergences between two sample sets, (n, d) and (m, d): pure, differentiable, of shape ()."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from priory.names import named

IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def _check(a: Tensor, b: Tensor, least: int = 1) -> None:
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"expected two sample sets of shape (n, d) and (m, d), got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(f"expected at least {least} samples in each set, got {len(a)}, {len(b)}")


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2, (n, m), for samples (n, d) and (m, d).

    The product form, after a shift by the mean of `b` that keeps rounding small.
    """
    centre = b.detach().mean(0)
    a, b = a - centre, b - centre
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
    return (squares - 2 * a @ b.mT).clamp(min=0)


def _imq(squares: Tensor, scale: float | Tensor) -> Tensor:
    return torch.stack([c * scale / (c * scale + squares) for c in IMQ_SCALES]).sum(0)


def _rbf(squares: Tensor, scale: float | Tensor) -> Tensor:
    return torch.exp(-squares / scale)


KERNELS: dict[str, Callable[[Tensor, float | Tensor], Tensor]] = {"imq": _imq, "rbf": _rbf}


def _off_diagonal_mean(square: Tensor) -> Tensor:
    n = len(square)
    return (square.sum() - square.diagonal().sum()) / (n * (n - 1))


def mmd(
    a: Tensor,
    b: Tensor,
    kernel: str = "imq",
    scale: float | None = None,
    unbiased: bool = True,
) -> Tensor:
    r"""Return the squared maximum mean discrepancy.

    .. math:: \mathrm{MMD}^2 = E\,k(a, a') + E\,k(b, b') - 2 E\,k(a, b)

    Gretton et al., 2012, A kernel two-sample test. The kernels are "rbf",
    exp(-|a - b|^2 / (2 scale^2)), and "imq", the sum over c of C / (C + |a - b|^2) with
    C = 2 d scale^2 c for c from 0.1 to 10 (Tolstikhin et al., 2018, Wasserstein auto-encoders).

    Args:
        a: Samples, (n, d), n > 1.
        b: Samples, (m, d), m > 1.
        kernel: "imq" or "rbf".
        scale: Length scale in the samples' units. By default 1 for "imq", which suits latents under
            a standard normal prior, and for "rbf" the median distance between all samples.
        unbiased: Whether to leave each sample's kernel with itself out; the value can then be
            negative, and its mean is 0 under equality.

    Raises:
        ValueError: The shapes don't fit, or there is no such kernel, or the scale isn't positive.

    Example:
        >>> mmd(torch.zeros(4, 2), torch.zeros(3, 2)).item()
        0.0
    """
    _check(a, b, least=2)
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    k = named("kernel", kernel, KERNELS)
    aa, bb, ab = squared_distances(a, a), squared_distances(b, b), squared_distances(a, b)
    denominator: float | Tensor
    if kernel == "imq":
        denominator = 2 * a.shape[1] * (scale or 1.0) ** 2
    elif scale is not None:
        denominator = 2 * scale**2
    else:
        pairs = [aa.flatten(), bb.flatten(), ab.flatten(), ab.flatten()]
        denominator = 2 * torch.cat(pairs).detach().median().clamp(min=torch.finfo(a.dtype).tiny)
    inner = _off_diagonal_mean if unbiased else torch.mean
    return inner(k(aa, denominator)) + inner(k(bb, denominator)) - 2 * k(ab, denominator).mean()


def energy(a: Tensor, b: Tensor, unbiased: bool = True) -> Tensor:
    r"""Return the energy distance.

    .. math:: 2 E|a - b| - E|a - a'| - E|b - b'|

    Szekely and Rizzo, 2013, Energy statistics.

    Args:
        a: Samples, (n, d), n > 1.
        b: Samples, (m, d), m > 1.
        unbiased: Whether to leave each sample's distance to itself out.

    Raises:
        ValueError: The shapes don't fit.
    """
    _check(a, b, least=2)
    inner = _off_diagonal_mean if unbiased else torch.mean
    return 2 * _distances(a, b).mean() - inner(_distances(a, a)) - inner(_distances(b, b))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j| with gradient 0 where the two coincide."""
    squares = squared_distances(a, b)
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


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
    _check(a, b)
    if projections < 1:
        raise ValueError(f"projections must be positive, got {projections}")
    u = torch.randn(a.shape[1], projections, generator=generator, dtype=a.dtype, device=a.device)
    u = u / u.norm(dim=0)
    first, second = (a @ u).sort(0).values, (b @ u).sort(0).values
    n, m = len(a), len(b)
    if n == m:
        return (first - second).square().mean()
    steps_a = torch.arange(1, n + 1, device=a.device, dtype=torch.float64) / n
    steps_b = torch.arange(1, m + 1, device=a.device, dtype=torch.float64) / m
    ends = torch.cat([steps_a, steps_b]).sort().values
    widths = ends.diff(prepend=ends.new_zeros(1))
    middle = ends - 0.5 * widths
    rows = (middle * n).long().clamp(max=n - 1), (middle * m).long().clamp(max=m - 1)
    squares = (first[rows[0]] - second[rows[1]]).square().mean(1)
    return (squares * widths.to(a.dtype)).sum()


def sinkhorn(
    a: Tensor, b: Tensor, eps: float = 0.05, steps: int = 100, debias: bool = True
) -> Tensor:
    r"""Return the entropic transport cost between two sets, for the squared distance.

    .. math:: S = T_\epsilon(a, b) - \tfrac12 T_\epsilon(a, a) - \tfrac12 T_\epsilon(b, b)

    Feydy et al., 2019, Interpolating between optimal transport and MMD using Sinkhorn divergences.
    The potentials are iterated without gradients, from a large temperature down to `eps`; the last
    step alone carries the gradient, which is exact at the optimum.

    Args:
        a: Samples, (n, d).
        b: Samples, (m, d).
        eps: Temperature, in units of squared distance; the smaller, the nearer to transport and the
            more steps are needed.
        steps: Number of iterations.
        debias: Whether to take off the two self-terms, so that a set is at distance 0 of itself.

    Raises:
        ValueError: The shapes don't fit, or `eps` or `steps` isn't positive.
    """
    _check(a, b)
    if not eps > 0 or steps < 1:
        raise ValueError(f"eps and steps must be positive, got {eps} and {steps}")
    cost = _entropic(squared_distances(a, b), eps, steps)
    if not debias:
        return cost
    own = [_entropic(squared_distances(c, c), eps, steps) for c in (a, b)]
    return cost - 0.5 * (own[0] + own[1])


def _entropic(cost: Tensor, eps: float, steps: int) -> Tensor:
    n, m = cost.shape

    def soft_rows(cost: Tensor, g: Tensor, t: Tensor) -> Tensor:
        return -t * ((g - cost) / t - math.log(m)).logsumexp(1)

    def soft_columns(cost: Tensor, f: Tensor, t: Tensor) -> Tensor:
        return -t * ((f.unsqueeze(1) - cost) / t - math.log(n)).logsumexp(0)

    fixed = cost.detach()
    f, g = fixed.new_zeros(n), fixed.new_zeros(m)
    start = fixed.max().clamp(min=eps)
    with torch.no_grad():
        for i in range(steps):
            # The temperature falls geometrically over the first half, then stays.
            t = start * (eps / start) ** min(1.0, 2 * (i + 1) / steps)
            new_f, new_g = soft_rows(fixed, g, t), soft_columns(fixed, f, t)
            f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
    last = fixed.new_tensor(eps)
    # Each potential's own last step carries the whole gradient, so the two are averaged.
    return 0.5 * (
        soft_rows(cost, g, last).mean() + g.mean() + soft_columns(cost, f, last).mean() + f.mean()
    )


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "energy": energy,
    "mmd": mmd,
    "sinkhorn": sinkhorn,
    "sliced": sliced,
}
