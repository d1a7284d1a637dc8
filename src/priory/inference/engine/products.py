"""Matrix products of a compiled step on processors for which torch's usual library is slow."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
LEAST = 1e7  # operations of a product, above which the faster library repays the call to it


@cache
def library_is_slow() -> bool:
    """Return whether torch's float32 products on this CPU run far below what it can do.

    Torch multiplies float32 matrices by MKL, which has no kernels of its own for processors by AMD;
    oneDNN, which torch has as well, for convolutions, does.
    """
    if not (torch.backends.mkl.is_available() and _has_operator()):
        return False
    find = getattr(torch.cpu, "get_capabilities", None)
    return find is not None and "AMD" in find().get("cpu_name", "")


def by_faster_library(graph: GraphModule) -> GraphModule:
    """Return a graph whose large float32 products on a CPU are oneDNN's; the same one if none is.

    Args:
        graph: of a step, made by `make_fx`, so that its nodes know their tensors.
    """
    if not any(_is_large_product(node) for node in graph.graph.nodes):
        return graph
    define()
    found = deepcopy(graph)
    for node in [n for n in found.graph.nodes if _is_large_product(n)]:
        *added, a, b = node.args
        with found.graph.inserting_before(node):
            new = found.graph.call_function(torch.ops.priory.product.default, (a, b))
            for term in added:
                new = found.graph.call_function(_ATEN.add.Tensor, (new, term))
        node.replace_all_uses_with(new)
        found.graph.erase_node(node)
    found.recompile()
    return found


def _is_large_product(node: Node) -> bool:
    if node.target not in (_ATEN.mm.default, _ATEN.addmm.default) or node.kwargs:
        return False
    first, second = (getattr(x, "meta", {}).get("tensor_meta") for x in node.args[-2:])
    if first is None or second is None or first.dtype != torch.float32:
        return False
    return 2 * first.shape[0] * first.shape[1] * second.shape[1] >= LEAST


def _has_operator() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def define() -> Any:
    """Define the operator `priory::product`, (n, k) by (k, m), for as long as what is returned."""
    multiply = torch.ops.mkldnn._linear_pointwise.default

    def product(a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = multiply(a, b.t(), None, "none", [], "")
        return found

    def shape(a: Tensor, b: Tensor) -> Tensor:
        return a.new_empty(a.shape[0], b.shape[1])

    library = torch.library.Library("priory", "DEF")
    library.define("product(Tensor a, Tensor b) -> Tensor")
    library.impl("product", product, "CPU")
    library.impl("product", shape, "Meta")
    return library
