"""Pareto-smoothing's shape: how heavy a tail importance weights have, datum by datum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

THRESHOLD = 0.7  # above it an importance sampling estimate is not to be trusted
_LEAST = 5  # draws that a tail is fitted to, at least
_ROWS = 128  # data at a time
_PRIOR, _PRIOR_MEAN = 10, 0.5  # the weakly informative prior: so many draws of that shape
_ROUNDING = 64.0  # weights that differ by so many roundings are taken to be equal


def tail_length(particles: int) -> int:
    r"""Return how many of K weights make the tail, 0 where K is too small for one.

    .. math:: M = \lceil \min(K / 5, 3 \sqrt{K}) \rceil

    Args:
        particles: importance samples K per datum.

    Example:
        >>> tail_length(5000), tail_length(50), tail_length(20)
        (213, 10, 0)
    """
    length = math.ceil(min(particles / 5, 3 * math.sqrt(particles)))
    return length if length >= _LEAST else 0


class Tail:
    """Keeps the largest log weights of each datum while blocks of particles go by.

    Args:
        particles: importance samples K per datum in all.

    Example:
        >>> tail = Tail(100)
        >>> for block in torch.randn(4, 25, 3).unbind():
        ...     tail.add(block)
        >>> tail.khat().shape
        torch.Size([3])
    """

    def __init__(self, particles: int) -> None:
        self.length = tail_length(particles)
        self._kept: Tensor | None = None
        self._eps = 0.0

    def add(self, log_weight: Tensor) -> None:
        """Take in a block.

        Args:
            log_weight: in nats, `(particles, n)`, in the precision that they were computed in.
        """
        if not self.length:
            return
        self._eps = max(self._eps, torch.finfo(log_weight.dtype).eps)
        # Contiguous by datum: selecting along rows is several times as fast.
        block = log_weight.detach().T.contiguous()
        if self._kept is not None:
            block = torch.cat([self._kept, block], 1)
        count = min(self.length + 1, block.shape[1])
        self._kept = block.topk(count, dim=1, sorted=False).values

    def khat(self) -> Tensor:
        """Return k-hat of each datum, `(n,)`, float64; NaN where K is too small for a tail.

        Raises:
            ValueError: if no block was added.
        """
        if not self.length:
            raise ValueError("there are too few particles for a tail; ask tail_length first")
        if self._kept is None:
            raise ValueError("no log weights were added")
        return shape_of(self._kept.T, eps=self._eps)


def khat(log_weight: Tensor) -> Tensor:
    r"""Return the shape k-hat of the generalised Pareto distribution of a datum's largest weights.

    .. math:: p(w > u + y \mid w > u) = (1 + k y / \sigma)^{-1 / k}

    An estimate from importance weights has a variance where k < 1/2 and a mean where k < 1; above
    0.7 no practicable number of samples suffices. The fit is Zhang and Stephens' approximation of
    the posterior mean, drawn towards 1/2 by a prior worth 10 draws.

    Zhang and Stephens 2009, A New and Efficient Estimation Method for the Generalized Pareto
    Distribution; Vehtari, Simpson, Gelman, Yao and Gabry 2024, Pareto Smoothed Importance Sampling.

    Args:
        log_weight: in nats, `(particles, n)`.

    Returns:
        k-hat, `(n,)`, float64: NaN if there are fewer than 21 particles, 0 where all weights of the
        tail are equal up to rounding (no tail at all), infinite where it has weights of zero.

    Example:
        >>> z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
        >>> float(khat(0.49 * z[:, :1] ** 2)) > 0.7     # N(0, 50) over N(0, 1)
        True
    """
    particles, n = log_weight.shape
    tail = Tail(particles)
    if not tail.length:
        return torch.full((n,), math.nan, dtype=torch.float64)
    tail.add(log_weight)
    return tail.khat()


def shape_of(largest: Tensor, *, eps: float) -> Tensor:
    """Fit the tail's shape to the M + 1 largest log weights of each datum.

    Args:
        largest: in nats, `(M + 1, n)`, in any order.
        eps: relative rounding of the log weights.

    Returns:
        k-hat, `(n,)`, float64.
    """
    parts = [_shape(part.double().sort(0).values, eps) for part in largest.split(_ROWS, 1)]
    return torch.cat(parts).cpu()


def _shape(ordered: Tensor, eps: float) -> Tensor:
    cut, top = ordered[0], ordered[-1]
    same = top - cut <= _ROUNDING * eps * top.abs().clamp(min=1.0)
    x = (ordered[1:] - top).exp() - (cut - top).exp()  # excesses over the threshold, ascending
    m = len(x)
    grid = torch.arange(1, 31 + int(math.sqrt(m)), dtype=x.dtype, device=x.device)
    quartile = x[int(m / 4 + 0.5) - 1]
    # Candidates b = -k / sigma, weighed by the profile likelihood.
    b = (1 - (len(grid) / (grid - 0.5)).sqrt())[:, None] / (3 * quartile) + 1 / x[-1]
    k = torch.log1p(-b[:, None] * x).mean(1)
    score = m * ((-b / k).log() - k - 1)
    b = (b * score.softmax(0)).sum(0)
    k = torch.log1p(-b * x).mean(0)
    k = (m * k + _PRIOR * _PRIOR_MEAN) / (m + _PRIOR)
    k = torch.where(k.isfinite() & cut.isfinite(), k, math.inf)
    return torch.where(same, 0.0, k)
