"""Labels as vectors and planes, and what joins them to others."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(labels: Tensor, classes: int, like: Tensor | None = None) -> Tensor:
    """Return labels (*batch) as indicators (*batch, classes); NaN where a label is out of range.

    The NaN stops the training with the rows named, without the device being waited for.

    Args:
        labels: Integers from 0.
        classes: Number of classes.
        like: A tensor whose dtype the result takes; torch's default one if None.
    """
    dtype = torch.get_default_dtype() if like is None else like.dtype
    numbers = torch.arange(classes, device=labels.device)
    rows = (labels.unsqueeze(-1) == numbers).to(dtype)
    inside = ((labels >= 0) & (labels < classes)).unsqueeze(-1)
    return torch.where(inside, rows, torch.nan)


def beside(vectors: Tensor, labels: Tensor) -> Tensor:
    """Return vectors (*batch, d) with labels (*batch, classes) beside, (*batch, d + classes)."""
    lead = torch.broadcast_shapes(vectors.shape[:-1], labels.shape[:-1])
    return torch.cat([vectors.expand(*lead, -1), labels.expand(*lead, -1)], -1)


def with_planes(images: Tensor, labels: Tensor) -> Tensor:
    """Return images with a plane for each class, of ones for the label's and of zeros else.

    Args:
        images: (*batch, channels, height, width).
        labels: Indicators, (*batch, classes).
    """
    lead = torch.broadcast_shapes(images.shape[:-3], labels.shape[:-1])
    planes = labels[..., None, None].expand(*lead, -1, *images.shape[-2:])
    return torch.cat([images.expand(*lead, -1, -1, -1), planes], -3)
