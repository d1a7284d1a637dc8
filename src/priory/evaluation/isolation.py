"""Evaluation leaves no trace: modes, random state, parameter store, validation are put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from priory.evaluation.likelihood.normaliser import knowing
from priory.evaluation.rows import Columns, blocks
from priory.inference.alone import alone
from priory.inference.phases.arguments import modules_of
from priory.inference.phases.recorder import unscaled


@contextmanager
def sealed(*programs: Any, device: torch.device | None = None) -> Iterator[None]:
    """Run a block that judges a pair and leaves everything as it was.

    Inside, the pair's modules are in `eval()` mode, gradients and Pyro's validation are off, and
    the parameter store holds the caller's bare `pyro.param` values only: a module carries its own
    weights, and those that another pair left in the store under the same name must not meet them.
    `poutine.scale`, a device of training, is left out of all densities; masks stay. A Boltzmann
    machine finds its log normaliser where it is asked for.
    Afterwards every module's own mode, the random generators and the store are restored, so
    that a training run is bit-identical with and without evaluation in between.

    Args:
        programs: the pair, or its model and guide.
        device: where random numbers are drawn; the CPU's are always kept.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with alone(), ExitStack() as stack:
        modes = {m: m.training for p in programs for root in modules_of(p) for m in root.modules()}
        store = pyro.get_param_store()
        state = store.get_state()
        bare = {k: {n: v for n, v in state[k].items() if "$$$" not in n} for k in state}
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(store.scope(bare))
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(unscaled())
        stack.enter_context(knowing(*programs))
        try:
            for module in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def reseed(device: torch.device, *key: int) -> None:
    """Start the random stream that a tuple of integers names, on the CPU and on the device.

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


def seeded(draws: Any, stream: int, size: int) -> Iterator[Columns]:
    """Yield the rows that a pair is judged on, where it is; each block has random draws of its own.

    Args:
        draws: of a pair.
        stream: names the kind of draw.
        size: rows of a block.
    """
    for start, rows in blocks(draws.columns, size, placement(draws.model, draws.guide)):
        reseed(next(iter(rows.values())).device, draws.seed, stream, start)
        yield rows


def placement(*programs: Any) -> Tensor | None:
    """Return the first floating-point parameter of a pair: data go to its device and dtype."""
    for program in programs:
        for root in modules_of(program):
            for parameter in root.parameters():
                if parameter.is_floating_point():
                    return parameter
    return None
