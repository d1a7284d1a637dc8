"""A training step's loss and gradients as one compiled graph of tensor operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from priory.inference.randomness import own_randomness


class Untraceable(RuntimeError):
    """A program does something that no graph of tensor operations can repeat."""


class Traced:
    """Loss and gradients of one batch, traced once and run without Python's or Pyro's overhead.

    Pyro's effect handlers are plain Python, so that tracing sees the tensor operations alone.
    Every tensor that the programs hold (parameters, buffers) is an input of the graph, so that the
    optimiser's updates are seen.

    Args:
        loss: function of the batch's tensors, answering shape ().
        params: the parameters to differentiate by.
        batch: tensors of one batch; the graph is good for their shapes.
        inductor: whether to compile the graph, or only to replay it operation by operation.

    Raises:
        Untraceable: if the loss looks at a tensor's values, for instance by `.item()`.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        params: list[Tensor],
        batch: list[Tensor],
        *,
        inductor: bool = True,
    ) -> None:
        self.params = params
        self.shapes = [x.shape for x in batch]

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            value = loss(*tensors)
            gradients = torch.autograd.grad(value, params, allow_unused=True)
            return (value.detach(), *(g for g in gradients if g is not None))

        with own_randomness(batch[0].device if batch else torch.device("cpu")):
            try:
                graph = make_fx(step, tracing_mode="real")(*batch)
            except Exception as error:
                raise Untraceable(str(error).splitlines()[0]) from error
            self.used = _used(loss, params, batch)
        self.held = _lift(graph)
        self.run: Callable[..., Any] = graph
        if inductor:
            self.run = _compile(graph, [*self.held, *batch])

    def fits(self, batch: list[Tensor]) -> bool:
        """Say whether a batch has the shapes that the graph was traced for."""
        return [x.shape for x in batch] == self.shapes

    @torch.no_grad()
    def __call__(self, *batch: Tensor) -> Tensor:
        """Set the gradients of the parameters, and answer the loss, shape ()."""
        value, *gradients = self.run(*self.held, *batch)
        for p, g in zip(self.used, gradients, strict=True):
            p.grad = g
        result: Tensor = value
        return result


class Compiler:
    """Traces a loss when it is first asked to, and falls back on eager steps where it cannot.

    Args:
        mode: "inductor" compiles the traced graph, "trace" replays it as it is.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.traced: Traced | None = None
        self.fixed: dict[str, Any] = {}
        self.reason = ""

    def gradients(
        self, loss: Callable[..., Tensor], params: list[Tensor], columns: dict[str, Any]
    ) -> Tensor | None:
        """Set the gradients by the graph and answer the loss; `None` where it does not apply.

        Args:
            loss: function of the columns by name.
            params: the parameters to differentiate by.
            columns: one batch's arguments by name; what is no tensor is taken as constant.
        """
        if self.reason:
            return None
        tensors = {k: v for k, v in columns.items() if isinstance(v, Tensor)}
        fixed = {k: v for k, v in columns.items() if k not in tensors}
        batch = list(tensors.values())
        if self.traced is None:
            self.fixed = fixed
            try:
                self.traced = Traced(
                    lambda *values: loss(**dict(zip(tensors, values, strict=True)), **fixed),
                    params,
                    batch,
                    inductor=self.mode == "inductor",
                )
            except Untraceable as error:
                self.give_up(str(error))
                return None
        if fixed != self.fixed or not self.traced.fits(batch):
            return None
        return self.traced(*batch)

    def give_up(self, reason: str) -> None:
        """Run eager from now on, and say why, once."""
        self.reason = reason
        warnings.warn(f"the step is not compiled and runs eager: {reason}", stacklevel=2)


def _used(loss: Callable[..., Tensor], params: list[Tensor], batch: list[Tensor]) -> list[Tensor]:
    """Answer the parameters that the loss depends on."""
    gradients = torch.autograd.grad(loss(*batch), params, allow_unused=True)
    return [p for p, g in zip(params, gradients, strict=True) if g is not None]


def _lift(graph: GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into its first inputs, and answer them."""
    held: list[Tensor] = []
    places: dict[int, Any] = {}
    first = next(iter(graph.graph.nodes))
    for node in list(graph.graph.nodes):
        if node.op != "get_attr":
            continue
        tensor = getattr(graph, node.target)
        if id(tensor) not in places:
            with graph.graph.inserting_before(first):
                places[id(tensor)] = graph.graph.placeholder(f"held_{len(held)}")
            held.append(tensor)
        node.replace_all_uses_with(places[id(tensor)])
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return held


def _compile(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inductor's own import warns of torch's own code
        from torch._inductor.compile_fx import compile_fx

        compiled: Any = compile_fx(graph, [x.detach() for x in inputs])
    run: Callable[..., Any] = compiled
    return run
