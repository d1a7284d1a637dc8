"""Mixed precision: nets in bfloat16, densities in float32."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

Precision = Literal["float32", "bf16"]

_SHORT = (torch.bfloat16, torch.float16)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a loss is computed: matrix products in bfloat16, or as they are.

    Args:
        precision: "bf16" or "float32".
        device: where the loss is computed.
    """
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def casting() -> bool:
    """Return whether an autocast context is active."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def widened(part: Any) -> Any:
    """Return a distribution with float32 where its parameters are of half the length.

    Nets return bfloat16 under autocast, in which a density over hundreds of pixels has two digits.
    """
    if isinstance(part, Tensor):
        return part.float() if part.dtype in _SHORT else part
    if isinstance(part, list | tuple):
        return type(part)(map(widened, part))
    if not isinstance(part, Distribution | Transform):
        return part
    wide = copy.copy(part)
    for name, value in vars(part).items():
        if isinstance(value, Tensor | list | tuple | Distribution | Transform):
            wide.__dict__[name] = widened(value)
    return wide
