"""What hangs on programs and objectives: modules, schedules, the device of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from priory.inference.arguments import modules_of, owner
from priory.inference.objectives import Objective
from priory.inference.schedules import Schedule


def modules(*programs: Any) -> list[nn.Module]:
    """Answer the modules that programs are, are methods of, or close over, each once."""
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


@contextmanager
def frozen(*roots: nn.Module) -> Iterator[None]:
    """Keep gradients from modules' parameters for a while; they pass through to the inputs."""
    flags = [(p, p.requires_grad) for root in roots for p in root.parameters()]
    try:
        for p, _ in flags:
            p.requires_grad_(False)
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


def schedules(*roots: Any) -> Iterator[Schedule]:
    """Find the schedules among the attributes of objectives and of the pair's modules."""
    for root in roots:
        own = owner(root)
        if isinstance(own, Schedule):
            yield own
        elif isinstance(own, Objective):
            yield from schedules(*(v for v in vars(own).values() if isinstance(v, Schedule)))
            yield from schedules(*(t for t in own.terms() if t is not own))
        else:
            parts = [m for held in modules_of(root) for m in held.modules()]
            attributes = itertools.chain.from_iterable(vars(m).values() for m in parts)
            yield from (v for v in attributes if isinstance(v, Schedule))


def device_of(values: Iterable[Any] | Mapping[str, Any]) -> torch.device:
    """Answer where the first tensor among some values is, the CPU if there is none."""
    values = values.values() if isinstance(values, Mapping) else values
    return next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))
