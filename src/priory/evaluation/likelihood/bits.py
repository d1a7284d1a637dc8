"""From nats per datum to bits per dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS = 200  # looked at in search of levels
_MOST = 1024
_OFF = 1e-4  # of a level's width


def bits_per_dim(nats: Tensor, features: int, spacing: float = 1.0) -> Tensor:
    r"""Answer the negative log probability of data in bits per dimension.

    .. math:: \frac{-\log p(x)}{D \log 2} - \log_2 h

    where h is the distance of neighbouring levels, in the data's units: the mass of a level is the
    density times h. Of a mass p, h is 1.

    Args:
        nats: negative log density or mass of each datum, `(n,)`.
        features: D.
        spacing: the levels' distance h.

    Raises:
        ValueError: if features or spacing are not positive.

    Example:
        >>> bits_per_dim(torch.zeros(1), 784, 1 / 256)  # uniform on [0, 1)
        tensor([8.])
    """
    if features < 1 or not spacing > 0:
        raise ValueError(f"features and spacing must be positive, got {features} and {spacing}")
    return nats / (features * math.log(2)) - math.log2(spacing)


def level_spacing(x: Tensor) -> float | None:
    """Answer the distance of the levels that data lie on, 1 / L, if there is a whole L.

    Args:
        x: data, `(n, *shape)`; 200 rows are looked at.

    Returns:
        The distance for the least L up to 1,024; `None` where the data lie on no such levels.

    Example:
        >>> level_spacing(torch.tensor([[0.0, 3.0, 16.0]]) / 16)
        0.0625
    """
    index = torch.linspace(0, len(x) - 1, min(len(x), _ROWS), dtype=torch.float64).round().long()
    values = x[index.to(x.device)].double().unique()
    if len(values) > _MOST * float(values[-1] - values[0]) + 1:
        return None
    for levels in range(1, _MOST + 1):
        scaled = values * levels
        if ((scaled - scaled.round()).abs() <= _OFF).all():
            return 1 / levels
    return None
