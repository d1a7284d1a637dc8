"""Whole training steps as CUDA graphs: one launch in place of hundreds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from priory.lookup import first_line

_WARM = 3  # steps on a side stream, in which libraries and optimisers make what they need
_PAYS = 50  # steps
_GRAPHS = 4  # batch shapes


class Captured:
    """A training step as a CUDA graph, replayed on new data in its static buffers.

    Args:
        step: takes the columns of a batch and returns the loss, shape (); moves the weights, and
            never waits for the device.
        columns: one batch.
        generators: that the step draws from, apart from CUDA's own.
    """

    def __init__(
        self,
        step: Callable[[dict[str, Any]], Tensor],
        columns: dict[str, Any],
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.columns = {k: _static(v) for k, v in columns.items()}
        self.graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.loss = step(self.columns)

    def __call__(self, columns: Mapping[str, Any]) -> Tensor:
        """Take the step on a batch, and return its loss, shape ()."""
        for name, value in columns.items():
            if isinstance(value, Tensor):
                self.columns[name].copy_(value, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()


class Capturer:
    """Runs whole steps as CUDA graphs, and falls back on eager steps where it cannot.

    The first steps run eager on a side stream, as CUDA asks for; the next is captured.

    Args:
        mode: "cudagraph", or "auto", which captures a training of 50 steps or more.
        horizon: steps of the whole training; if unknown, "auto" captures.
        log: gets a message of what is done.
    """

    def __init__(self, mode: str, horizon: int | None, log: Callable[[str], object]) -> None:
        self.mode, self.log = mode, log
        self.reason = ""
        self.idle = mode == "auto" and horizon is not None and horizon < _PAYS
        self._graphs: dict[Any, Captured] = {}
        self._warm: dict[Any, int] = {}

    @property
    def captured(self) -> bool:
        """Whether steps are replayed."""
        return bool(self._graphs) and not self.reason

    def step(
        self,
        whole: Callable[[dict[str, Any]], Tensor],
        columns: dict[str, Any],
        context: Any = None,
        generators: Sequence[torch.Generator] = (),
    ) -> Tensor | None:
        """Take a step and return its loss; `None` where it is to be taken eagerly.

        Args:
            whole: takes the columns of a batch, moves all players, returns the loss.
            columns: one batch's arguments by name; what is no tensor is taken as constant.
            context: whatever else a graph depends on, hashable: training modes, say.
            generators: that the step draws from, apart from CUDA's own.
        """
        if self.reason or self.idle:
            return None
        try:
            key = _key(columns, context)
        except TypeError as error:
            self.give_up(str(error))
            return None
        if key not in self._graphs:
            warm = self._warm[key] = self._warm.get(key, 0) + 1
            if warm <= _WARM:
                return _aside(whole, columns)
            if len(self._graphs) == _GRAPHS:
                return None
            state = torch.cuda.get_rng_state()
            try:
                self._graphs[key] = Captured(whole, columns, generators)
                self.log("the step is captured as a CUDA graph")
            except (RuntimeError, ValueError, TypeError) as error:
                torch.cuda.synchronize()
                torch.cuda.set_rng_state(state)
                self.give_up(first_line(error))
                return None
        return self._graphs[key](columns)

    def give_up(self, reason: str) -> None:
        """Run eager from now on, and say why, once."""
        self.reason = reason
        text = f"the step is not captured and runs eager: {reason}"
        if self.mode == "auto":
            self.log(text)
        else:
            warnings.warn(text, stacklevel=4)


def _aside(whole: Callable[[dict[str, Any]], Tensor], columns: dict[str, Any]) -> Tensor:
    """Take an eager step on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = whole(columns)
    torch.cuda.current_stream().wait_stream(stream)
    return loss


def _static(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _key(columns: Mapping[str, Any], context: Any) -> Any:
    """Return what a graph is good for.

    Raises:
        TypeError: if an argument is neither a tensor on CUDA nor hashable.
    """
    parts = []
    for name, value in columns.items():
        if not isinstance(value, Tensor):
            parts.append((name, value))
        elif value.is_cuda:
            parts.append((name, (value.shape, value.dtype, value.device)))
        else:
            raise TypeError(f"the column {name!r} is on the CPU")
    key = (tuple(parts), context)
    hash(key)
    return key
