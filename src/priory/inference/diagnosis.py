"""What went wrong in a training step: which site, parameter and rows hold NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor

from priory.inference.callback import Training
from priory.inference.checkpoints.disk import write_file
from priory.inference.checkpoints.weights import encode, put, tensors_of
from priory.inference.engine.guard import NonFinite
from priory.inference.phases.arguments import bind
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import base, is_observed, log_prob
from priory.inference.randomness import own_randomness
from priory.lookup import first_line

_ROWS = 8
_MEMORY = ("DefaultCPUAllocator", "not enough memory", "out of memory")
_MENDS = (
    "look at these rows: where a few values are far larger than the others, scale them or take "
    "their logarithm; else clip the gradient (clip=1.0) or lower lr; a rare one can be passed over "
    "by skip_nonfinite=1"
)
Batch = dict[str, Tensor]


class Stepping(Training, Protocol):
    """What a diagnosis sees of a training run; see `Loop`, which is one.

    Args:
        size: rows a step.
        epoch: the present one, from 0 on.
        batch: the present one of the epoch, from 0 on.
        random: state from which the present step draws, if it is known.
    """

    size: int
    epoch: int
    batch: int
    random: Tensor | None

    def batches(self, start: int) -> Iterator[Batch]:
        """Return the epoch's batches, from one on."""


def explained(error: NonFinite, loop: Stepping) -> ValueError:
    """Return an error that says which step, batch, rows and site are NaN or infinite.

    The batch is run once more from the random state of its step, and saved in the run's folder.

    Args:
        error: from the engine.
        loop: the training, as it stood when the error was raised.
    """
    number = loop.batch - (loop.svi.steps - error.step)
    batch = next(loop.batches(number))
    with _again(loop):
        place, bad = culprit(loop, batch)
    rows = batch["index"] if bad is None else batch["index"][bad]
    shown = ", ".join(map(str, rows[:_ROWS].tolist())) + (", ..." if len(rows) > _ROWS else "")
    parts = [
        f"{error.what} of step {error.step + 1} (epoch {loop.epoch + 1}, batch {number + 1}) is "
        f"NaN or infinite: {place}; training rows {shown}",
        "the weights are as they were before the step",
    ]
    if loop.options.folder is not None:
        path = Path(loop.options.folder) / f"bad-batch-step-{error.step + 1}.safetensors"
        write_file(path, encode(batch))
        parts.append(f"the batch is saved in {path}, and the last checkpoint stands")
    return ValueError("; ".join([*parts, _MENDS]))


def culprit(loop: Stepping, batch: Batch) -> tuple[str, Tensor | None]:
    """Return what is NaN or infinite first, and in which rows of the batch, `None` if it is in all.

    Args:
        loop: the training.
        batch: its columns by name.
    """
    svi = loop.svi
    for name, column in batch.items():
        if not _finite(column):
            return f"the data hold {_what(column)} in the column {name!r}", _rows(column, batch)
    players = [*(player for _, player in svi.critics), svi.pair]
    for player in players:
        for name, p in player.params.items():
            if not _finite(p):
                return f"the parameter {name!r} holds {_what(p)}", None
    found = _site(loop, batch)
    if found is not None:
        return found
    for player in players:
        loss = player.loss(**batch)
        params = list(player.params.values())
        gradients: list[Tensor | None]
        if isinstance(loss, Tensor) and loss.requires_grad:
            gradients = [*torch.autograd.grad(loss, params, allow_unused=True)]
        else:
            gradients = [p.grad for p in params]
        for name, g in zip(player.params, gradients, strict=True):
            if g is not None and not _finite(g):
                return f"the gradient of {name!r} holds {_what(g)}, every density is finite", None
    return "a second run of the batch is finite", None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory is used up."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in str(error) for word in _MEMORY)


def explained_memory(error: BaseException, loop: Stepping) -> MemoryError:
    """Return an error that says what would need less memory; the weights are left as they are.

    Args:
        error: that was raised.
        loop: the training.
    """
    for p in loop.svi.params.values():
        p.grad = None
    particles = getattr(loop.objective, "particles", 1)
    mends = [f"batch_size={max(1, loop.size // 2)}"]
    mends += ["fewer particles"] if particles > 1 else []
    if loop.data.device.type == "cuda":
        mends += ["precision='bf16'"]
    kept = "" if loop.options.folder is None else "; the last checkpoint stands"
    return MemoryError(
        f"out of memory in step {loop.svi.steps + 1} with batch_size={loop.size} and "
        f"{particles} particles: try {' or '.join(mends)}; the weights are as they were before "
        f"the step{kept} ({first_line(error)})"
    )


@contextmanager
def _again(loop: Stepping) -> Iterator[None]:
    """Go back to the step's random state; leave the weights, buffers and gradients untouched."""
    own = tensors_of(loop.pair, loop.objective, loop.svi.params)
    kept = {name: tensor.detach().clone() for name, tensor in own.items()}
    with own_randomness(loop.data.device), pyro.validation_enabled(False):
        if loop.random is not None:
            torch.set_rng_state(loop.random)
        try:
            yield
        finally:
            put(own, kept)
            for p in loop.svi.params.values():
                p.grad = None


def _site(loop: Stepping, batch: Batch) -> tuple[str, Tensor | None] | None:
    """Return the first site of guide and model that is NaN or infinite."""
    state = torch.get_rng_state()
    for particles in {getattr(loop.objective, "particles", 1): 0, 1: 0}:
        torch.set_rng_state(state)
        values: dict[str, Tensor] = {}
        for program in (loop.svi.guide, loop.svi.model):
            recorder = Recorder(values, particles=particles)
            try:
                with recorder, torch.no_grad():
                    program(**bind(program, batch))
            except (RuntimeError, ValueError):  # what is NaN or infinite may be refused further on
                pass
            for name, site in recorder.sites.items():
                for what, tensor in _parts(site):
                    if not _finite(tensor):
                        kind = "guide" if program is loop.svi.guide else "model"
                        text = f"{what} of the {kind}'s site {name!r} holds {_what(tensor)}"
                        return text, _rows(tensor, batch)
            drawn = {n: s["value"] for n, s in recorder.sites.items() if not is_observed(s)}
            values = {**drawn, **recorder.subsamples}
    torch.set_rng_state(state)
    return None


def _parts(site: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a site's distribution, its value and its log-probability."""
    fn = base(site["fn"])
    for name in getattr(fn, "arg_constraints", {}):
        if isinstance(value := vars(fn).get(name), Tensor):
            yield f"the {name}", value
    yield "the value", site["value"]
    yield "the log-probability", log_prob(dict(site))


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _what(tensor: Tensor) -> str:
    kind = "nan" if bool(tensor.isnan().any()) else "an infinity"
    return f"{kind} ({int((~tensor.isfinite()).sum())} of {tensor.numel()} values)"


def _rows(tensor: Tensor, batch: Batch) -> Tensor | None:
    """Return in which rows of the batch a tensor is NaN or infinite, `None` if it does not say."""
    rows = len(batch["index"])
    bad = ~tensor.isfinite()
    if rows not in bad.shape:
        return None
    return bad.movedim(bad.shape.index(rows), 0).reshape(rows, -1).any(1)
