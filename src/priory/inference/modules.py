"""What hangs on programs: their modules, and the device of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from priory.inference.phases.arguments import modules_of


def modules(*programs: Any) -> list[nn.Module]:
    """Return the modules that programs are, are methods of, or close over, each once."""
    return list({id(m): m for p in programs for m in modules_of(p)}.values())


@contextmanager
def eval_mode(roots: Iterable[nn.Module]) -> Iterator[None]:
    """Put modules into evaluation mode for a while, and each of their parts back as it was."""
    every = [m for root in roots for m in root.modules()]
    modes = [m.training for m in every]
    try:
        for module in every:
            module.training = False
        yield
    finally:
        for module, mode in zip(every, modes, strict=True):
            module.training = mode


def device_of(values: Iterable[Any] | Mapping[str, Any]) -> torch.device:
    """Return where the first tensor among some values is, the CPU if there is none."""
    values = values.values() if isinstance(values, Mapping) else values
    return next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))
