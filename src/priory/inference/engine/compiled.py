"""Steps as graphs: when to trace, when to compile, and when to give up."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from priory.inference.engine.graphs import Traced, Untraceable
from priory.inference.randomness import own_randomness

Mode = Literal["auto", "off", "trace", "inductor", "cudagraph"]

_TRACE_PAYS = 500  # steps; a trace takes a tenth of a second or two, and saves half a millisecond
_COMPILE_SECONDS = 15.0
_GRAPHS = 4  # batch shapes


class Compiler:
    """Runs a loss and its gradients as graphs, and falls back on eager steps where it cannot.

    A graph repeats what the programs did when they were traced. That they still do the same is
    looked at after 0, 1, 2, 4, 8, ... steps, by an eager run with the same draws.

    Args:
        mode: "trace" replays the graph, "inductor" compiles it; "auto" traces a training of 500
            steps or more, and compiles where the steps of the whole training repay it. What it
            decides depends on the number of steps and the graph alone, not on the clock.
        horizon: steps of the whole training; if unknown, "auto" expects as many to come as there
            have been. On CUDA it leaves the step to be captured.
        tell: is told in words what is done, and what for.
    """

    def __init__(
        self, mode: str, horizon: int | None = None, tell: Callable[[str], object] = str
    ) -> None:
        self.mode = mode
        self.horizon = horizon
        self.tell = tell
        self.reason = ""
        self.compiles = True
        self.check: Tensor | None = None
        self._graphs: dict[Any, Traced] = {}
        self._compiled: set[Any] = set()
        self._calls: dict[Any, int] = {}

    @property
    def engine(self) -> str:
        """What runs now: "eager", "traced" or "compiled"."""
        if self.reason or not self._graphs:
            return "eager"
        return "compiled" if self._compiled else "traced"

    def gradients(
        self,
        loss: Callable[..., Tensor],
        params: Sequence[Tensor],
        columns: Mapping[str, Any],
        *,
        step: int,
        restore: Callable[[], None],
        context: Any = None,
    ) -> Tensor | None:
        """Set the gradients by a graph and answer the loss; `None` where none applies.

        Args:
            loss: function of the columns by name.
            params: the parameters to differentiate by.
            columns: one batch's arguments by name; what is no tensor is taken as constant.
            step: number of the step.
            restore: puts back the buffers that an eager run moved.
            context: whatever else a graph depends on, hashable: training modes, say.
        """
        expected = step if self.horizon is None else self.horizon
        if self.reason or (self.mode == "auto" and expected < _TRACE_PAYS):
            return None
        tensors = {k: v for k, v in columns.items() if isinstance(v, Tensor)}
        fixed = {k: v for k, v in columns.items() if k not in tensors}
        batch = list(tensors.values())
        if self.mode == "auto" and any(x.is_cuda for x in batch):
            return None  # whole steps are captured there

        def positional(*values: Tensor) -> Tensor:
            return loss(**dict(zip(tensors, values, strict=True)), **fixed)

        try:
            key = _key(batch, fixed, params, context)
            if key not in self._graphs:
                if len(self._graphs) == _GRAPHS:
                    return None
                self._graphs[key] = Traced(positional, params, batch)
                restore()
                self.tell(f"the step is traced: {len(self._graphs[key])} tensor operations")
            self._compile(key, batch, expected)
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls & (calls - 1) == 0:
                self._compare(self._graphs[key], positional, batch, restore)
        except (Untraceable, TypeError) as error:
            restore()
            self.give_up(str(error))
            return None
        found = self._graphs[key](batch)
        self.check = self._graphs[key].check
        return found

    def give_up(self, reason: str) -> None:
        """Run eager from now on, and say why, once."""
        self.reason = reason
        self._say(f"the step is not compiled and runs eager: {reason}")

    def _say(self, text: str) -> None:
        """Warn of what was asked for and cannot be had; "auto" did not ask for it."""
        if self.mode == "auto":
            self.tell(text)
        else:
            warnings.warn(text, stacklevel=4)

    def _compile(self, key: Any, batch: list[Tensor], expected: int) -> None:
        if key in self._compiled or not self.compiles or self.mode == "trace":
            return
        graph = self._graphs[key]
        saved = graph.overhead() * expected
        if self.mode == "auto" and saved < _COMPILE_SECONDS:
            return
        started = time.perf_counter()
        self.tell(f"compiling the step, to save about {saved:.0f} s in {expected:,} steps")
        try:
            graph.compile(batch)
            self.tell(f"compiled in {time.perf_counter() - started:.0f} s")
        except Untraceable as error:
            self.compiles = False
            self._say(f"the step is traced, but not compiled: {error}")
            return
        self._compiled.add(key)

    def _compare(
        self,
        graph: Traced,
        loss: Callable[..., Tensor],
        batch: list[Tensor],
        restore: Callable[[], None],
    ) -> None:
        """Raise Untraceable unless the graph's loss is that of an eager run with the same draws."""
        device = batch[0].device if batch else torch.device("cpu")
        with own_randomness(device):
            eager = loss(*batch).detach()
            restore()
        with own_randomness(device):
            replayed = graph(batch)
            restore()
        if not torch.allclose(eager, replayed, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise Untraceable(
                f"the programs do not repeat what they did when they were traced (a loss of "
                f"{float(eager):.6g} for {float(replayed):.6g}): their Python code changes from "
                "step to step"
            )


def _key(batch: list[Tensor], fixed: dict[str, Any], params: Sequence[Tensor], context: Any) -> Any:
    """Answer what a graph is good for.

    Raises:
        TypeError: if an argument is neither a tensor nor hashable.
    """
    shapes = tuple((x.shape, x.dtype, x.device) for x in batch)
    key = (shapes, tuple(fixed.items()), tuple(p.requires_grad for p in params), context)
    hash(key)
    return key
