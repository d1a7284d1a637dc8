"""Several p-values at once."""

from __future__ import annotations

import torch
from torch import Tensor


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
