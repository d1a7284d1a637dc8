"""Weights that give rare examples their due, and the draw of a training set by them."""

from __future__ import annotations

import torch
from torch import Tensor


def balance(density: Tensor, share: float = 0.5) -> Tensor:
    r"""Weigh examples by the inverse density of their codes, as far as their number allows.

    .. math:: w_i \propto q(z_i)^{-t}, \quad t = \max\{t \le 1: \mathrm{ESS}(w) \ge s n\}

    At t = 1 the weighted codes are even over the region that the data fill; in many dimensions a
    handful of rows would then hold all the weight, which the least effective share prevents.

    Amini et al. 2019, Uncovering and mitigating algorithmic bias through learned latent structure;
    there the density is a product of histograms, smoothed by a constant.

    Args:
        density: log densities of codes, such as `latent_density`'s, `(n,)`, in nats.
        share: least effective sample size, as a share s of n; 0 gives t = 1.

    Returns:
        Weights of mean 1, `(n,)`, float64.

    Raises:
        ValueError: if the share is none, or a density is NaN or infinite.

    Example:
        >>> balance(torch.zeros(3))
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be from 0 to below 1, got {share}")
    bad = (~density.isfinite()).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        raise ValueError(f"densities must be finite, got {float(density[row])} in row {row}")
    surprise = -density.double()
    low, high = 0.0, 1.0
    if effective_size(_weights(surprise)) < share * len(density):
        for _ in range(60):  # the effective size falls as t grows
            t = 0.5 * (low + high)
            enough = effective_size(_weights(t * surprise)) >= share * len(density)
            low, high = (t, high) if enough else (low, t)
        surprise = low * surprise
    return _weights(surprise)


def effective_size(weights: Tensor) -> float:
    r"""Return how many equal weights are worth as much, :math:`(\sum w)^2 / \sum w^2`.

    Kish 1965, Survey sampling.

    Args:
        weights: not negative, `(n,)`.
    """
    w = weights.double() / weights.max()
    return float(w.sum().square() / w.square().sum())


def resample(weights: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw row numbers in proportion to weights, each as near to its due number as can be.

    Systematic resampling: one random offset, then even steps through the cumulated weights. A row
    is drawn n w / sum(w) times, rounded up or down, and on average exactly so. A balanced training
    set is then `Data.from_arrays(x=x[rows], y=y[rows])`.

    Kitagawa 1996, Monte Carlo filter and smoother for non-Gaussian nonlinear state space models.

    Args:
        weights: not negative, `(rows,)`.
        n: draws.
        generator: of the offset and the order.

    Returns:
        Row numbers in random order, `(n,)`.

    Raises:
        ValueError: if n or all weights are not positive.

    Example:
        >>> resample(torch.tensor([1.0, 3.0]), 4, torch.Generator().manual_seed(0)).bincount()
        tensor([1, 3])
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    w = weights.double().cpu()
    if not (bool(w.isfinite().all()) and bool((w >= 0).all()) and float(w.sum()) > 0):
        raise ValueError("weights must be finite, not negative, and not all 0")
    edges = w.cumsum(0) / w.sum() * n
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    points = torch.arange(n, dtype=torch.float64) + offset
    rows = torch.searchsorted(edges, points, right=True)
    last = int(w.nonzero()[-1])
    return rows.clamp(max=last)[torch.randperm(n, generator=generator)]


def class_shares(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return each class's share of the rows, or of their weight, `(classes,)`, float64.

    Args:
        labels: integers from 0, `(n,)`.
        weights: `(n,)`; all equal if `None`.
    """
    w = torch.ones(len(labels), dtype=torch.float64) if weights is None else weights.double().cpu()
    return labels.cpu().long().bincount(w) / w.sum()


def _weights(surprise: Tensor) -> Tensor:
    return torch.softmax(surprise, 0) * len(surprise)
