"""Labels as vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(labels: Tensor, classes: int, like: Tensor | None = None) -> Tensor:
    """Return labels (*batch) as indicators (*batch, classes); NaN where a label is out of range.

    The NaN stops the training with the rows named, without the device being waited for.

    Args:
        labels: Whole numbers from 0.
        classes: Number of classes.
        like: A tensor whose dtype the result takes; torch's default one if None.
    """
    dtype = torch.get_default_dtype() if like is None else like.dtype
    numbers = torch.arange(classes, device=labels.device)
    rows = (labels.unsqueeze(-1) == numbers).to(dtype)
    inside = ((labels >= 0) & (labels < classes)).unsqueeze(-1)
    return torch.where(inside, rows, torch.nan)
