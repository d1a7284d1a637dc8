"""Evaluation leaves no trace: modes, random state, parameter store, validation are put back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from priory.inference.recorder import unscaled


@contextmanager
def sealed(*programs: Any, device: torch.device | None = None) -> Iterator[None]:
    """Run a block that judges a pair and leaves everything as it was.

    Inside, the pair's modules are in `eval()` mode, gradients and Pyro's validation are off, and
    the parameter store holds the caller's bare `pyro.param` values only: a module carries its own
    weights, and those that another pair left in the store under the same name must not meet them.
    `poutine.scale`, a device of training, is left out of all densities; masks stay.
    Afterwards every module's own mode, the random generators and the store are restored, so
    that a training run is bit-identical with and without evaluation in between.

    Args:
        programs: the pair, or its model and guide.
        device: where random numbers are drawn; the CPU's are always kept.
    """
    modes = {m: m.training for p in programs for root in _modules(p) for m in root.modules()}
    store = pyro.get_param_store()
    state = store.get_state()
    bare = {k: {n: v for n, v in state[k].items() if "$$$" not in n} for k in state}
    devices = [device] if device is not None and device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(store.scope(bare))
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(unscaled())
        try:
            for module in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def reseed(device: torch.device, *key: int) -> None:
    """Start the random stream that a tuple of whole numbers names, on the CPU and on the device.

    Each block of each kind of draw has its own stream, so that no number depends on which other
    metrics were asked for. Only the given device is seeded: the others belong to the caller.

    Args:
        device: where the draws are made.
        key: not negative; such as the seed, the kind of draw, and the first row.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def placement(*programs: Any) -> Tensor | None:
    """Answer the first floating-point parameter of a pair: data go to its device and dtype."""
    for program in programs:
        for root in _modules(program):
            for parameter in root.parameters():
                if parameter.is_floating_point():
                    return parameter
    return None


def _modules(program: Any) -> list[nn.Module]:
    """Answer the modules that a pair or a program runs: itself, its owner, those it closes over."""
    if isinstance(program, nn.Module):
        return [program]
    if inspect.ismethod(program):
        return _modules(program.__self__)
    if inspect.isfunction(program):
        return [m for m in _closure(program) if isinstance(m, nn.Module)]
    if isinstance(program, functools.partial):
        return [m for part in (program.func, *program.args) for m in _modules(part)]
    held = list(getattr(program, "__dict__", {}).values())
    programs = [part for part in held if isinstance(part, nn.Module) or inspect.isroutine(part)]
    return [m for part in programs for m in _modules(part)]


def _closure(function: Callable[..., Any]) -> list[Any]:
    try:
        scope = inspect.getclosurevars(function)
    except ValueError:  # a cell that is not filled yet
        return []
    return [*scope.nonlocals.values(), *scope.globals.values()]
