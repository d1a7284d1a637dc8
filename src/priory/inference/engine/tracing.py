"""Steps as graphs: when to trace, when to compile, and when to give up."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from priory.inference.engine.fx_graph import Traced, Untraceable
from priory.inference.randomness import own_randomness

Mode = Literal["auto", "off", "trace", "inductor", "cudagraph"]

_TRACE_PAYS = 500  # steps; a trace takes a tenth of a second or two, and saves half a millisecond
_GRAPHS = 4  # batch shapes
_SETTLED = 500  # steps after which a change from outside is no longer one of many
_WAIT = 16  # steps without a change after the second of many
# In units of the rounding error. A traced graph calls the kernels that an eager step calls; what
# inductor fuses it sums in another order.
_TRACED, _COMPILED = 30.0, 1000.0


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
        log: gets a message of what is done, and what for.
        roots: programs and objectives that the loss runs. Where a value that they read in Python
            is changed from outside, the step is traced anew; where that happens soon after the last
            time, after twice as many eager steps each time.
    """

    def __init__(
        self,
        mode: str,
        horizon: int | None,
        log: Callable[[str], object],
        roots: Sequence[Any] = (),
    ) -> None:
        self.mode = mode
        self.horizon = horizon
        self.log = log
        self.roots = roots
        self.changes = Changes()
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
        """Set the gradients by a graph and return the loss; `None` where none applies.

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
            if key in self._graphs and not self._graphs[key].state.same():
                self._renew(key, step)
            if key not in self._graphs:
                if len(self._graphs) == _GRAPHS or self.changes.waits(step):
                    return None
                self._graphs[key] = Traced(positional, params, batch, self.roots)
                restore()
                self.log(f"the step is traced: {len(self._graphs[key])} tensor operations")
            self._compile(key, batch, expected)
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls & (calls - 1) == 0:
                self._compare(self._graphs[key], positional, params, batch, restore)
        except (Untraceable, TypeError) as error:
            restore()
            self.give_up(str(error))
            return None
        found = self._graphs[key](batch)
        self.check = self._graphs[key].check
        return found

    def _renew(self, key: Any, step: int) -> None:
        """Drop a graph unless the values that it was traced with are equal to those of now."""
        graph = self._graphs[key]
        changed = graph.state.changes({id(t) for t in graph.held})
        if not changed:
            graph.state.renew()
            return
        del self._graphs[key]
        self._compiled.discard(key)
        self._calls.pop(key, None)
        self.log(f"{changed[0]} has changed: {self.changes.note(step)}")

    def give_up(self, reason: str) -> None:
        """Run eager from now on, and say why, once."""
        self.reason = reason
        self._say(f"the step is not compiled and runs eager: {reason}")

    def _say(self, text: str) -> None:
        """Warn of what was asked for and cannot be had; "auto" did not ask for it."""
        if self.mode == "auto":
            self.log(text)
        else:
            warnings.warn(text, stacklevel=4)

    def _compile(self, key: Any, batch: list[Tensor], expected: int) -> None:
        if key in self._compiled or not self.compiles or self.mode == "trace":
            return
        graph = self._graphs[key]
        saved = graph.overhead * expected
        if self.mode == "auto" and saved < graph.compile_seconds:
            return
        started = time.perf_counter()
        self.log(f"compiling the step, to save about {saved:.0f} s in {expected:,} steps")
        try:
            failed = graph.compile(batch)
            self.log(f"compiled in {time.perf_counter() - started:.0f} s")
            if failed:
                self._say(f"the calls between the compiled kernels are Python: {failed}")
        except Untraceable as error:
            self.compiles = False
            self._say(f"the step is traced, but not compiled: {error}")
            return
        self._compiled.add(key)

    def _compare(
        self,
        graph: Traced,
        loss: Callable[..., Tensor],
        params: Sequence[Tensor],
        batch: list[Tensor],
        restore: Callable[[], None],
    ) -> None:
        """Raise Untraceable unless the graph does what an eager run with the same draws does."""
        device = batch[0].device if batch else torch.device("cpu")
        graph.state.mark()
        with own_randomness(device):
            try:
                value = loss(*batch)
                gradients = torch.autograd.grad(value, params, allow_unused=True)
                eager = [value.detach(), *(g for g in gradients if g is not None)]
                after = torch.get_rng_state()
                graph.check_state()
            finally:
                restore()
                graph.state.restore()
        runs: dict[Callable[..., Any], float] = {graph.graph: _TRACED}
        runs.setdefault(graph.run, _COMPILED)
        for run, tolerance in runs.items():
            with own_randomness(device), torch.no_grad():
                replayed, _, *rest = run(*graph.held, *batch)
                same = torch.equal(after, torch.get_rng_state())
                restore()
            if not same or not agree(eager, [replayed, *rest], tolerance):
                raise Untraceable(
                    "the programs do not repeat what they did when they were traced (a loss of "
                    f"{float(eager[0]):.8g} for {float(replayed):.8g}): their Python code changes "
                    "from step to step"
                )


class Changes:
    """When to trace anew, where values in Python are changed from outside."""

    def __init__(self) -> None:
        self.last = 0
        self.wait = 0

    def note(self, step: int) -> str:
        """Take in a change at a step; say what follows."""
        soon = self.last > 0 and step - self.last < _SETTLED + self.wait
        self.wait = max(_WAIT, 2 * self.wait) if soon else 0
        self.last = step
        if not self.wait:
            return "the step is traced anew"
        return f"the step runs eager for {self.wait} steps, and is then traced anew"

    def waits(self, step: int) -> bool:
        """Return whether a step is to be run eager."""
        return self.last > 0 and step < self.last + self.wait


def agree(eager: Sequence[Tensor], graph: Sequence[Tensor], tolerance: float) -> bool:
    """Return whether losses and gradients are the same up to rounding.

    Args:
        eager: the loss, shape (), and the gradients.
        graph: the same, obtained by another way.
        tolerance: largest difference, of the loss relative to it (to 1 if it is smaller), of the
            gradients relative to the norm of all, in units of the rounding error of the coarsest
            type among them: a schedule's weight makes a loss a double, and no gradient.
    """
    rounding = tolerance * max(torch.finfo(t.dtype).eps for t in eager)
    loss, replayed = float(eager[0]), float(graph[0])
    if not math.isfinite(loss) or len(eager) != len(graph):
        return len(eager) == len(graph) and str(loss) == str(replayed)
    if not abs(loss - replayed) <= rounding * max(1.0, abs(loss)):
        return False
    pairs = [(a.double(), b.double()) for a, b in zip(eager[1:], graph[1:], strict=True)]
    norm = math.sqrt(sum(float(a.square().sum()) for a, _ in pairs))
    error = math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs))
    return not math.isfinite(norm) or error <= 10 * rounding * max(norm, 1e-6)


def _key(batch: list[Tensor], fixed: dict[str, Any], params: Sequence[Tensor], context: Any) -> Any:
    """Return what a graph is good for.

    Raises:
        TypeError: if an argument is neither a tensor nor hashable.
    """
    shapes = tuple((x.shape, x.dtype, x.device) for x in batch)
    key = (shapes, tuple(fixed.items()), tuple(p.requires_grad for p in params), context)
    hash(key)
    return key
