"""ONNX models of maps, by torch's exporter, and what onnxruntime makes of them."""

from __future__ import annotations

import logging
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from priory.onnx.maps import X_MEAN, Map, RefusedError, X

_LINES = 200  # characters of an exporter's error


def to_onnx(part: Map, metadata: Mapping[str, str]) -> bytes:
    """Return a map as an ONNX model whose number of rows is free.

    What depends on the parameters alone, such as a covariance's factor or the components of a
    VampPrior, is computed once and stored.

    Args:
        part: The map.
        metadata: What the model says of itself, kept as its metadata.

    Raises:
        RefusedError: Torch's exporter cannot express the map, or only for a fixed number of rows.
        ImportError: onnx or onnxscript isn't installed.
    """
    arrays = tuple(part.inputs.values())
    shapes = tuple({0: torch.export.Dim("rows")} for _ in arrays)
    with _quiet():
        try:
            whole = torch.export.export(part, arrays, dynamic_shapes=(shapes,))
            graph = whole.run_decompositions(_EARLY).module()
            _fold(graph)
            again = torch.export.export(graph, arrays, dynamic_shapes=shapes)
            program: Any = torch.onnx.export(
                again.run_decompositions(_LATE),
                input_names=[*part.inputs],
                output_names=part.outputs,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except ImportError as error:
            raise ImportError("an export needs onnx: pip install 'priory[onnx]'") from error
        except Exception as error:
            raise RefusedError(_reason(error)) from error
    program.model.metadata_props.update(metadata)
    content: bytes = program.model_proto.SerializeToString()
    return content


def compute(content: bytes, arrays: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return what onnxruntime makes of some arrays, by the outputs' names.

    Args:
        content: An ONNX model.
        arrays: Its inputs by name.

    Raises:
        ImportError: onnxruntime isn't installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("an export needs onnxruntime: pip install 'priory[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {k: v.numpy() for k, v in arrays.items()}), strict=True)
    )


def difference(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, Tensor], part: Map
) -> float:
    """Return by how much two sets of outputs differ: the largest |a - b| / (1 + |b|).

    Those of x are taken in units of each column's scale, where the columns have one.

    Args:
        found: By onnxruntime.
        expected: By torch.
        part: The map.
    """
    worst = 0.0
    for name, value in expected.items():
        a, b = found[name].astype(np.float64), value.double().numpy()
        if a.shape != b.shape:
            return float("inf")
        if name in (X, X_MEAN):
            a, b = ((v - part.mean.numpy()) / part.scale.numpy() for v in (a, b))
        gap = np.abs(a - b) / (1 + np.abs(b))
        worst = max(worst, float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0)))
    return worst


def _fold(graph: fx.GraphModule) -> None:
    """Compute what depends on no input once, and store it in its place."""
    values: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(graph)
        elif node.op == "call_function" and _is_constant(node, values):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for i, (node, value) in enumerate(values.items()):
        needed = any(user not in values for user in node.users)
        if node.op == "call_function" and needed and isinstance(value, Tensor):
            graph.register_buffer(f"constant{i}", value.detach().clone())
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.get_attr(f"constant{i}"))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_constant(node: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
    """Return whether a node is a computation without side effects of known values alone."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem and node.args[0] in values
    random = torch.Tag.nondeterministic_seeded in node.target.tags
    if random or node.target._schema.is_mutable or node.is_impure():
        return False
    return all(n in values for n in node.all_input_nodes)


def _lgamma(x: Tensor) -> Tensor:
    r"""Return log Gamma(x) for x > 0 by Stirling's series, which ONNX can express.

    .. math:: \log \Gamma(x) = \log \Gamma(x + 8) - \sum_{k < 8} \log(x + k)
    """
    y = x.double()
    z = y + 8
    series = 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5) - 1 / (1680 * z**7)
    shift = torch.zeros_like(y)
    for k in range(8):
        shift = shift + (y + k).log()
    return ((z - 0.5) * z.log() - z + 0.9189385332046727 + series - shift).to(x.dtype)


def _solve(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    """Return a^-1 b, or b a^-1, by the inverse, which is stored where a is a parameter's."""
    inverse = torch.linalg.inv(a.double())
    if left and b.dim() == a.dim() - 1 and b.shape == a.shape[:-1]:
        return (inverse @ b.double().unsqueeze(-1)).squeeze(-1).to(b.dtype)
    return (inverse @ b.double() if left else b.double() @ inverse).to(b.dtype)


def _solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Return the same for a triangle a, of which the other half goes unread."""
    half = (a.triu if upper else a.tril)()
    if unitriangular:
        half = half - torch.diag_embed(half.diagonal(dim1=-2, dim2=-1) - 1)
    inverse = torch.linalg.inv(half.double())
    return (inverse @ b.double() if left else b.double() @ inverse).to(b.dtype)


_EARLY: Any = {
    torch.ops.aten.linalg_solve.default: _solve,
    torch.ops.aten.linalg_solve_triangular.default: _solve_triangular,
}
"""What ONNX lacks and is put otherwise, before what depends on parameters alone is stored."""

_LATE: Any = {torch.ops.aten.lgamma.default: _lgamma}
"""Likewise, after it."""


def _reason(error: Exception) -> str:
    """Return in one line why torch's exporter did not manage."""
    text = str(error)
    if "specialized" in text or "Constraints violated" in text:
        return (
            "the number of rows is fixed by its programs: write x.shape[0] where they have len(x)"
        )
    if absent := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text):
        return f"ONNX has no {absent[1]}, which it computes"
    line = next(filter(None, text.splitlines()), type(error).__name__)
    return f"torch's exporter cannot express it: {line.strip()[:_LINES]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own warnings and progress from the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
