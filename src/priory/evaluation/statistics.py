"""Standard errors of statistics that are no means, and several p-values at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pseudo_values(statistic: Callable[[Tensor], Tensor], n: int) -> Tensor:
    r"""Linearise a statistic in the weights of its data: one value per datum, whose mean it is.

    .. math:: t_i = T(1) + n \, (g_i - \bar g), \quad g_i = \partial T / \partial w_i |_{w = 1}

    Their standard deviation over the square root of n is the statistic's standard error by the
    delta method, the infinitesimal jackknife. Statistics of runs on the same data can be
    compared in pairs by them.

    Jaeckel 1972, The infinitesimal jackknife; Efron 1982, The Jackknife, the Bootstrap and Other
    Resampling Plans.

    Args:
        statistic: from weights `(n,)`, float64, to the statistic of the data so weighted, shape ();
            multiplying all weights by one number changes nothing.
        n: number of data.

    Returns:
        `(n,)`, float64.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> pseudo_values(lambda w: (w @ x) / w.sum(), 3)
        tensor([1., 2., 6.], dtype=torch.float64)
    """
    weights = torch.ones(n, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = statistic(weights)
        if not value.requires_grad:  # constant in the weights
            return value.detach().double().expand(n)
        (slope,) = torch.autograd.grad(value, weights)
    return value.detach() + n * (slope - slope.mean())


def is_below_zero(values: Tensor) -> bool:
    """Return whether a mean over data is negative by more than three standard errors.

    Args:
        values: one per datum, `(n,)`.
    """
    return len(values) > 1 and bool(values.mean() < -3 * values.std() / len(values) ** 0.5)


def holm(p: Tensor) -> Tensor:
    r"""Adjust p-values, so that any false finding among them has the level of a single one.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1.

    Holm 1979, A simple sequentially rejective multiple test procedure.

    Args:
        p: p-values, `(m,)`.

    Example:
        >>> holm(torch.tensor([0.01, 0.04, 0.03, 0.005]))
        tensor([0.0300, 0.0600, 0.0600, 0.0200])
    """
    ordered, order = p.sort()
    steps = ordered * torch.arange(len(p), 0, -1, dtype=p.dtype)
    return torch.empty_like(p).scatter(0, order, steps.cummax(0).values.clamp_max(1.0))
