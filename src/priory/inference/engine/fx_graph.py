"""A loss and its gradients as one graph of tensor operations."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

from priory.inference.engine.products import by_faster_library, library_is_slow
from priory.inference.engine.state import State
from priory.inference.randomness import own_randomness
from priory.lookup import first_line


class Untraceable(RuntimeError):
    """A program does something that no graph of tensor operations can repeat."""


class Traced:
    """Loss and gradients of one batch, traced once and run without Python's or Pyro's overhead.

    Pyro's effect handlers are plain Python, so that tracing sees the tensor operations alone.
    Every tensor that the programs hold (parameters, buffers, schedules) is an input of the graph,
    so that what others do to it is seen.

    Args:
        loss: function of the batch's tensors, returning shape ().
        params: the parameters to differentiate by.
        batch: tensors of one batch; the graph is good for their shapes.
        roots: programs and objectives that the loss runs, whose values in Python the graph keeps
            as they are now.

    Attributes:
        state: those values.
        check: after a call, the sum of the loss and all gradients, finite if all of them are.

    Raises:
        Untraceable: if the loss looks at a tensor's values, for instance by `.item()`, or changes
            values in Python, or draws random numbers of Python or NumPy.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        params: Sequence[Tensor],
        batch: Sequence[Tensor],
        roots: Sequence[Any] = (),
    ) -> None:
        self.used: list[Tensor] = []
        self.check: Tensor | None = None

        from torch.fx.experimental.proxy_tensor import make_fx  # a second's worth of imports

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            value = loss(*tensors)
            gradients = torch.autograd.grad(value, params, allow_unused=True)
            pairs = [(p, g) for p, g in zip(params, gradients, strict=True) if g is not None]
            self.used = [p for p, _ in pairs]
            found = [g for _, g in pairs]
            check = sum((g.sum() for g in found), value.detach())
            return (value.detach(), check, *found)

        self.state = State(loss, *roots)
        if self.state.unseen:
            raise Untraceable(f"the programs cannot be repeated: {self.state.unseen}")
        with own_randomness(batch[0].device if batch else torch.device("cpu")):
            try:
                with _NoValues():
                    self.graph = make_fx(step, tracing_mode="real")(*batch)
                self.held = _lift(self.graph)
                self.check_state()
            except Exception as error:
                raise Untraceable(first_line(error)) from error
            finally:
                self.state.restore()
        _check_shapes(self.graph)
        self.run: Callable[..., Any] = self.graph

    def check_state(self) -> None:
        """Raise Untraceable if a run of the programs has changed values in Python."""
        if changed := self.state.changes({id(t) for t in self.held}, run=True):
            raise Untraceable(
                f"{changed[0]} changes with every run of the programs, which no graph repeats; "
                "keep a number that changes in a buffer (register_buffer) or in a Schedule, and "
                "draw by torch"
            )

    def __len__(self) -> int:
        return sum(node.op == "call_function" for node in self.graph.graph.nodes)

    def __call__(self, batch: Sequence[Tensor]) -> Tensor:
        """Set the gradients of the parameters, and return the loss, shape ()."""
        with torch.no_grad():
            value, self.check, *gradients = self.run(*self.held, *batch)
        for p, g in zip(self.used, gradients, strict=True):
            p.grad = g
        result: Tensor = value
        return result

    def compile(self, batch: Sequence[Tensor]) -> str:
        """Compile the graph by inductor, with the random draws that it has now.

        Inductor keeps what it compiles in a cache on disk, from which a second run takes it. On a
        CPU the calls between its kernels are C++ too, unless the environment variable
        TORCHINDUCTOR_CPP_WRAPPER is 0, and large products are by the faster of torch's libraries.

        Returns:
            Why these calls are Python, where they should not be; else "".

        Raises:
            Untraceable: if inductor cannot, for want of a C++ compiler, say.
        """
        # Copies: inductor runs the graph while it compiles it, which moves the buffers in it.
        inputs = [x.detach().clone() for x in (*self.held, *batch)]
        asked = os.environ.get("TORCHINDUCTOR_CPP_WRAPPER", "1") != "0"
        failed = ""
        for wrapped in [True, False] if asked and all(x.is_cpu for x in inputs) else [False]:
            try:
                self.run = _compiled(self.graph, inputs, wrapped)
                return failed
            except Exception as error:
                failed = first_line(error)
        raise Untraceable(f"inductor failed: {failed}")

    @cached_property
    def overhead(self) -> float:
        """Estimate, in seconds a step, what a compiler saves on this graph on a CPU.

        Each operation between the matrix products costs a call, and the way of its tensors to
        memory and back, which fusion avoids.
        """
        return sum(_CALL + _bytes(n) / _BANDWIDTH for n in self._operations if _fuses(n))

    @cached_property
    def compile_seconds(self) -> float:
        """Estimate what compiling takes: of a chain's thousands of operations, many minutes."""
        return _COMPILE_SECONDS * max(1.0, len(self._operations) / _OPERATIONS) ** 2

    @property
    def _operations(self) -> list[Any]:
        return [n for n in self.graph.graph.nodes if n.op == "call_function"]


# Torch's own draws, in the order of the programs: a draw whose place is free is moved otherwise.
_SAME_DRAWS: dict[str, Any] = {"fallback_random": True, "reorder_for_peak_memory": False}
_CALL = 3e-6  # seconds; like the bandwidth, of one core of a server of 2020
_BANDWIDTH = 1e10
_COMPILE_SECONDS, _OPERATIONS = 15.0, 1000  # of a graph of so many operations, or fewer
_KEPT = {
    *("mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward"),
    *("randn", "rand", "normal", "bernoulli"),
    *("view", "t", "expand", "unsqueeze", "squeeze", "detach", "transpose", "permute", "unbind"),
}  # products and draws, which stay as they are, and views, which cost nothing


class _NoValues(TorchFunctionMode):
    """Refuses to hand tensors to Python or NumPy, where a graph cannot follow."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _LEAVES:
            raise Untraceable(f"the programs read a tensor's values by {func.__name__}()")
        return func(*args, **(kwargs or {}))


_LEAVES = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__}


def _check_shapes(graph: GraphModule) -> None:
    """Raise Untraceable if a shape depends on values: a graph keeps the first one's length."""
    for node in graph.graph.nodes:
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        indices = [i for i in node.args[1] if i is not None] if "index" in str(node.target) else []
        kinds = {i.meta["tensor_meta"].dtype for i in indices if "tensor_meta" in i.meta}
        if not indices or kinds & {torch.bool, torch.uint8}:
            raise Untraceable(f"the shape of {node.target} depends on the values of tensors")


def _compiled(graph: GraphModule, inputs: list[Tensor], wrapped: bool) -> Callable[..., Any]:
    """Compile a graph by inductor, and run it once, which compiles what is left.

    Args:
        graph: what is compiled.
        inputs: of the graph, copies of those that it will have.
        wrapped: whether the calls between the kernels are compiled as well.
    """
    with torch.no_grad(), warnings.catch_warnings(), _quiet("torch._inductor.ir"):
        warnings.simplefilter("ignore")  # inductor's own import warns of torch's own code
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx

        for node in graph.graph.nodes:
            if node.op == "placeholder":  # a tensor of another kind than inductor's stand-ins
                node.meta.pop("val", None)
        if all(x.is_cpu for x in inputs) and library_is_slow():
            graph = by_faster_library(graph)
        options = {**_SAME_DRAWS, "cpp_wrapper": wrapped}
        with config.patch(options), own_randomness(inputs[0].device):
            compiled: Any = compile_fx(graph, inputs, decompositions=_decompositions())
            compiled(*inputs)
    result: Callable[..., Any] = compiled
    return result


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger to its errors: inductor warns of each kernel that it calls through Python."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return inductor's decompositions: none of random draws, and one of expm1 that is exact.

    Another way to draw would change the numbers. Inductor's own exp(x) - 1 on a CPU (mended in
    https://github.com/pytorch/pytorch/pull/190533) is 0 for small x, whose logarithm is infinite.
    """
    from torch._inductor.decomposition import select_decomp_table

    tag = torch.Tag.nondeterministic_seeded
    table = select_decomp_table()
    kept = {op: f for op, f in table.items() if tag not in getattr(op, "tags", ())}
    return {**kept, torch.ops.aten.expm1.default: _expm1}


def _expm1(x: Tensor) -> Tensor:
    """Return exp(x) - 1 to full precision, by 2 t / (1 - t) with t = tanh(x / 2) near zero."""
    t = (x / 2).tanh()
    return torch.where(x.abs() < 1, 2 * t / (1 - t), x.exp() - 1)


def _fuses(node: Node) -> bool:
    packet = getattr(node.target, "overloadpacket", None)
    return packet is not None and packet.__name__ not in _KEPT


def _bytes(node: Node) -> int:
    meta = node.meta.get("tensor_meta")
    shape, dtype = getattr(meta, "shape", None), getattr(meta, "dtype", None)
    return 0 if shape is None or dtype is None else 2 * shape.numel() * dtype.itemsize


def _lift(graph: GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into its first inputs, and return them."""
    held: list[Tensor] = []
    places: dict[int, Any] = {}
    first = next(iter(graph.graph.nodes))
    for node in [n for n in graph.graph.nodes if n.op == "get_attr"]:
        tensor = getattr(graph, str(node.target))
        if id(tensor) not in places:
            with graph.graph.inserting_before(first):
                places[id(tensor)] = graph.graph.placeholder(f"held_{len(held)}")
            held.append(tensor)
        node.replace_all_uses_with(places[id(tensor)])
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return held
