"""A decoder as a short list of layers, each of a kind that a page's script can run.

One run of the model on a latent is recorded operation by operation; what does not depend on the
latent is a weight. What only moves numbers (a reshape, a permutation, padding, an upsampling to the
nearest) is a layer of one kind, `gather`, with the places that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal
from torch.nn.functional import one_hot

from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import (
    IndependentBernoulli,
    IndependentContinuousBernoulli,
    IndependentDiscretizedNormal,
    IndependentLogistic,
)
from priory.evaluation.record import Unavailable

UNARY = (
    *("abs", "ceil", "clamp", "clamp_max", "clamp_min", "cos", "elu", "erf", "exp", "expm1"),
    *("floor", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log1p"),
    *("log_sigmoid_forward", "logit", "mish", "neg", "reciprocal", "relu", "round", "rsqrt"),
    *("sigmoid", "sign", "silu", "sin", "softplus", "sqrt", "tanh"),
)
"""Kinds of layers that map each number by itself, called as torch's operations are."""

BINARY = (
    *("add", "sub", "rsub", "mul", "div", "maximum", "minimum", "pow"),
    *("gt", "ge", "lt", "le", "eq", "ne"),
)
"""Kinds of layers that combine two arrays number by number."""

_MOVES = {
    *("_to_copy", "_unsafe_view", "alias", "cat", "clone", "constant_pad_nd", "detach", "expand"),
    *("flip", "index", "index_select", "lift_fresh_copy", "permute", "pixel_shuffle"),
    *("pixel_unshuffle", "reflection_pad1d", "reflection_pad2d", "repeat", "replication_pad1d"),
    *("replication_pad2d", "reshape", "roll", "select", "slice", "split", "split_with_sizes"),
    *("squeeze", "stack", "t", "transpose", "unbind", "unsqueeze", "upsample_nearest1d"),
    *("upsample_nearest2d", "view"),
}
_LINEAR = {
    *("sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d", "_adaptive_avg_pool2d"),
    *("upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
}
_BY_CHANNEL = {"avg_pool2d", "_adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_bicubic2d"}
_BATCH_NORMS = {
    *("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit"),
    *("_native_batch_norm_legit_no_training",),
}
_LIKE = {"full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"}
_OTHERS = {
    *("_log_softmax", "_softmax", "addcmul", "addmm", "convolution", "cumprod", "glu", "mm"),
    *("native_group_norm", "native_layer_norm", "where"),
}
_MOST = 300  # layers
_BASIS = 4096  # numbers that a linear map, known by what it makes of each, may read


class Inexpressible(Unavailable):
    """A decoder has a layer that the page's script does not know."""


@dataclass(frozen=True)
class Ref:
    """An array that depends on the latent: its number among the layers' outputs, and its shape."""

    value: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layers:
    """A map from one latent, value 0, to the parameters of p(x | z).

    Args:
        records: the layers in their order, plain values; the n-th makes value n from those that
            `from` names, and its weights are numbers of tensors.
        tensors: the weights, and the places that are read, from 1 on; 0 is the filling.
        head: kind of the distribution, the values that are its parameters, and its constants.
        shape: of a datum.
        graph: the recorded operations, from (1, coordinates) to the parameters.
    """

    records: tuple[dict[str, Any], ...]
    tensors: tuple[Tensor, ...]
    head: dict[str, Any]
    shape: tuple[int, ...]
    graph: Callable[[Tensor], Any]

    @property
    def weights(self) -> int:
        """How many numbers its tensors have."""
        return sum(tensor.numel() for tensor in self.tensors)


def layers_of(
    function: Callable[[Tensor], tuple[str, Sequence[Tensor], dict[str, Any]]],
    u: Tensor,
    shape: tuple[int, ...],
) -> Layers:
    """Return what a function makes of a latent as layers.

    Args:
        function: from a latent, `(1, coordinates)`, to what `head_of` returns.
        u: one latent, of any value.
        shape: of a datum.

    Raises:
        Inexpressible: if it takes an operation that is no kind of layer, draws at random, or looks
            at values.

    Example:
        >>> net = torch.nn.Linear(2, 3)
        >>> found = layers_of(lambda u: ("mean", [net(u)], {}), torch.zeros(1, 2), (3,))
        >>> [record["kind"] for record in found.records]
        ['linear']
    """
    heads: list[tuple[str, dict[str, Any]]] = []

    def parameters(latent: Tensor) -> tuple[Tensor, ...]:
        kind, maps, constants = function(latent)
        heads.append((kind, constants))
        return tuple(maps)

    graph = _traced(parameters, u)
    builder = _Builder(u)
    maps = [builder.spread(ref, shape) for ref in builder.run(graph)]
    kind, constants = heads[-1]
    head = {"kind": kind, "of": [ref.value for ref in maps], **constants}
    return Layers(tuple(builder.records), tuple(builder.tensors), head, shape, graph)


def head_of(distribution: Any) -> tuple[str, list[Tensor], dict[str, Any]]:
    """Return a distribution's kind, its parameters and its constants; else "mean" and its mean.

    Args:
        distribution: of a datum.

    Raises:
        Unavailable: if it has no mean.
    """
    if isinstance(distribution, IndependentBernoulli):
        return "bernoulli", [distribution.logits], {}
    if isinstance(distribution, IndependentContinuousBernoulli):
        return "continuous-bernoulli", [distribution.logits], {}
    if isinstance(distribution, IndependentNormal):
        return "normal", [distribution.loc, distribution.log_scale], {}
    inner = distribution.base_dist if isinstance(distribution, Independent) else distribution
    if isinstance(inner, Bernoulli):
        return "bernoulli", [inner.logits], {}
    if isinstance(inner, Normal):
        return "normal", [inner.loc, inner.scale.log()], {}
    gathered = {IndependentLogistic: "logistic", IndependentDiscretizedNormal: "discretized-normal"}
    if type(distribution) in gathered:
        constants = {"levels": distribution.levels, "least": distribution.least}
        maps = [distribution.loc, distribution.log_scale]
        return gathered[type(distribution)], maps, constants
    try:
        return "mean", [distribution.mean], {}
    except NotImplementedError as error:
        raise Unavailable("p(x | z) has no mean that a page could show") from error


def _traced(function: Callable[[Tensor], tuple[Tensor, ...]], u: Tensor) -> Any:
    """Return the graph of a function's operations, none of them in place."""
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx  # a second's worth of imports

    try:
        return make_fx(functionalize(function), tracing_mode="real")(u)
    except Unavailable:
        raise
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Inexpressible(f"its operations cannot be recorded: {line[:200]}") from error


class _Builder:
    """Walks over a graph: constants are computed, all else becomes layers."""

    def __init__(self, latent: Tensor) -> None:
        self.latent = Ref(0, tuple(latent.shape))
        self.dtype = latent.dtype
        self.records: list[dict[str, Any]] = []
        self.tensors: list[Tensor] = []

    def run(self, graph: Any) -> list[Ref]:
        """Return the graph's outputs."""
        nodes = list(graph.graph.nodes)
        (output,) = (node for node in nodes if node.op == "output")
        needed, open_nodes = {output}, [output]
        while open_nodes:
            found = {*open_nodes.pop().all_input_nodes} - needed
            needed |= found
            open_nodes += found
        known: dict[Any, Any] = {}
        for node in (node for node in nodes if node in needed and node is not output):
            if node.op == "placeholder":
                known[node] = self.latent
            elif node.op == "get_attr":
                known[node] = getattr(graph, node.target).detach()
            else:
                known[node] = self._call(node, known)
            if len(self.records) > _MOST:
                raise Inexpressible(f"it takes more than {_MOST} layers")
        return [self.ref(known[node]) for node in output.args[0]]

    def _call(self, node: Any, known: dict[Any, Any]) -> Any:
        from torch.fx.node import map_arg

        args = map_arg(node.args, lambda n: known[n])
        kwargs = map_arg(node.kwargs, lambda n: known[n])
        name = getattr(node.target, "_opname", getattr(node.target, "__name__", ""))
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise Inexpressible(f"it draws at random ({name}) between the latent and p(x | z)")
        if not _depends((args, kwargs)):
            return node.target(*args, **kwargs)
        if name == "getitem":
            return _item(*args)
        if not hasattr(node.target, "_schema"):
            raise Inexpressible(f"the operation {name} is no kind of layer that the page knows")
        names = [argument.name for argument in node.target._schema.arguments]
        given = {a.name: a.default_value for a in node.target._schema.arguments}
        given |= dict(zip(names, args, strict=False)) | kwargs
        meta = node.meta.get("tensor_meta")
        shape = tuple(meta.shape) if hasattr(meta, "shape") else ()
        return self._layer(name, node.target, given, shape)

    def _layer(self, name: str, op: Any, given: dict[str, Any], shape: tuple[int, ...]) -> Any:
        """Add the layers of an operation."""
        if name in _LIKE:  # of the array's shape alone
            zeros = torch.zeros(given["self"].shape, dtype=self.dtype)
            return op(**{**given, "self": zeros, "device": None})
        if name in _MOVES:
            return self._moved(op, given)
        if name in BINARY:
            return self._binary(name, given, shape)
        if name in UNARY:
            return self._unary(name, op, given)
        if name in _LINEAR:
            return self._mixed(name, op, given, shape)
        if name in _BATCH_NORMS:
            return [self._batch_norm(given)]
        if name not in _OTHERS:
            raise Inexpressible(f"the operation {name} is no kind of layer that the page knows")
        return getattr(self, f"_{name.removeprefix('_')}")(given, shape)

    # --- adding -----------------------------------------------------------------------------------

    def ref(self, value: Any) -> Ref:
        """Return an array as a value, a constant as a layer without inputs."""
        if isinstance(value, Ref):
            return value
        array = torch.as_tensor(value)
        weight = self._weight(array)
        return self._add("constant", (), tuple(array.shape), weight=weight)

    def _add(self, kind: str, of: Sequence[Ref], shape: tuple[int, ...], **options: Any) -> Ref:
        record = {"kind": kind, "from": [ref.value for ref in of], "size": math.prod(shape)}
        self.records.append(record | options)
        return Ref(len(self.records), shape)

    def _weight(self, tensor: Tensor) -> int:
        self.tensors.append(tensor.detach().cpu())
        return len(self.tensors) - 1

    def spread(self, ref: Ref, shape: tuple[int, ...]) -> Ref:
        """Return a value broadcast to a shape; one number stays alone, as the script reads it."""
        if ref.size in (1, math.prod(shape)):
            return ref
        places = torch.arange(1, ref.size + 1).reshape(ref.shape)
        while places.dim() > len(shape):  # a batch of one
            places = places.squeeze(0)
        return self._gather([ref], places.expand(shape), tuple(shape))

    def _gather(
        self, of: Sequence[Ref], places: Tensor, shape: tuple[int, ...], fill: float = 0.0
    ) -> Ref:
        """Add a layer that reads places of its inputs laid end to end, 1, 2, ...; 0 is `fill`."""
        flat = places.reshape(-1).long().cpu()
        if len(of) == 1 and torch.equal(flat, torch.arange(1, of[0].size + 1)):
            return Ref(of[0].value, shape)
        return self._add("gather", of, shape, index=self._weight(flat), fill=fill)

    # --- what moves numbers -----------------------------------------------------------------------

    def _moved(self, op: Any, given: dict[str, Any]) -> Any:
        """Find where an operation takes each number from, by running it on their numbers."""
        sources: list[Ref] = []

        def numbered(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(numbered(item) for item in value)
            if isinstance(value, Tensor) and value.is_floating_point():
                value = self.ref(value)
            if not isinstance(value, Ref):
                return value.cpu() if isinstance(value, Tensor) else value
            start = 1 + sum(source.size for source in sources)
            sources.append(value)
            return torch.arange(start, start + value.size, dtype=torch.float64).view(value.shape)

        if (dtype := given.get("dtype")) is not None and not dtype.is_floating_point:
            raise Inexpressible("it rounds numbers to integers")
        arguments = {k: numbered(v) for k, v in given.items() if k not in ("dtype", "value")}
        fill = 0.0
        if "value" in given:  # of a padding
            fill, arguments["value"] = float(given["value"]), 0.0
        found = op(**arguments)
        if isinstance(found, Tensor):
            return self._gather(sources, found, tuple(found.shape), fill)
        return [self._gather(sources, part, tuple(part.shape)) for part in found]

    # --- number by number -------------------------------------------------------------------------

    def _unary(self, name: str, op: Any, given: dict[str, Any]) -> Any:
        source = given.pop("self")
        if op._overloadname != "default" or any(isinstance(v, Ref) for v in given.values()):
            raise Inexpressible(f"the operation {op} is no kind of layer that the page knows")
        if name == "gelu" and given["approximate"] == "tanh":
            name = "gelu_tanh"
        options = [v for v in given.values() if v is None or isinstance(v, (int, float))]
        found = self._add(name, [source], source.shape, options=options)
        return [found] if name == "log_sigmoid_forward" else found

    def _binary(self, name: str, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        first, second = (self.ref(value) for value in list(given.values())[:2])
        if given.get("rounding_mode") is not None:
            raise Inexpressible("it divides with rounding")
        if name == "rsub":
            name, first, second = "sub", second, self._times(first, given["alpha"])
        elif name in ("add", "sub"):
            second = self._times(second, given.get("alpha", 1))
        return self._add(name, [self.spread(first, shape), self.spread(second, shape)], shape)

    def _times(self, ref: Ref, factor: float) -> Ref:
        return ref if factor == 1 else self._add("mul", [ref, self.ref(float(factor))], ref.shape)

    def _where(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        parts = [self.spread(self.ref(given[k]), shape) for k in ("condition", "self", "other")]
        return self._add("where", parts, shape)

    def _addcmul(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        parts = [self.spread(self.ref(given[k]), shape) for k in ("tensor1", "tensor2")]
        product = self._times(self._add("mul", parts, shape), given["value"])
        return self._add("add", [self.spread(self.ref(given["self"]), shape), product], shape)

    def _glu(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        source, dim = given["self"], given["dim"]
        places = torch.arange(1, source.size + 1).view(source.shape).chunk(2, dim)
        value, gate = (self._gather([source], part, shape) for part in places)
        return self._add("mul", [value, self._add("sigmoid", [gate], shape, options=[])], shape)

    # --- sums -------------------------------------------------------------------------------------

    def _linear_layer(self, x: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Ref:
        if not isinstance(x, Ref) or isinstance(weight, Ref) or isinstance(bias, Ref):
            raise Inexpressible("it multiplies two arrays that both depend on the latent")
        if bias is not None and bias.numel() != weight.shape[1]:
            raise Inexpressible("it adds a matrix to a matrix product")
        options = {} if bias is None else {"bias": self._weight(bias)}
        rows = self._weight(weight.t().contiguous())
        return self._add("linear", [x], shape, weight=rows, inputs=weight.shape[0], **options)

    def _mm(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        return self._linear_layer(given["self"], given["mat2"], None, shape)

    def _addmm(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        if given["beta"] != 1 or given["alpha"] != 1:
            raise Inexpressible("it scales a matrix product")
        return self._linear_layer(given["mat1"], given["mat2"], given["self"], shape)

    def _convolution(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        x, weight, bias = given["input"], given["weight"], given["bias"]
        if not isinstance(x, Ref) or isinstance(weight, Ref) or isinstance(bias, Ref):
            raise Inexpressible("its convolution has weights that depend on the latent")
        if len(x.shape) not in (3, 4) or x.shape[0] != 1:
            raise Inexpressible(f"it convolves arrays of {len(x.shape) - 2} dimensions")
        row = len(x.shape) == 3  # one row of a picture
        options: dict[str, Any] = {
            k: [least, *given[k]] if row else [*given[k]]
            for k, least in (("stride", 1), ("padding", 0), ("dilation", 1))
        }
        if bias is not None:
            options["bias"] = self._weight(bias)
        return self._add(
            "convolution",
            [x],
            shape,
            weight=self._weight(weight),
            kernel=[1] * row + [*weight.shape[2:]],
            channels=[x.shape[1], shape[1]],
            sides=[[1] * row + [*x.shape[2:]], [1] * row + [*shape[2:]]],
            transposed=bool(given["transposed"]),
            groups=given["groups"],
            **options,
        )

    def _mixed(self, name: str, op: Any, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        """Add a linear map as a sparse matrix: what it makes of each single number."""
        source: Ref = given.pop("self") if "self" in given else given.pop("input")
        each = math.prod(source.shape[:2]) if name in _BY_CHANNEL else 1
        one = (1, 1, *source.shape[2:]) if name in _BY_CHANNEL else source.shape
        inputs = math.prod(one)
        if inputs > _BASIS:
            raise Inexpressible(f"its {name} reads {inputs} numbers, more than {_BASIS}")
        basis = one_hot(torch.arange(inputs), inputs).double()
        columns = [op(row.view(one), **_without_types(given)).reshape(-1) for row in basis]
        matrix = torch.stack(columns, 1)
        rows, places = matrix.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(matrix))
        return self._add(
            "mix",
            [source],
            shape,
            start=self._weight(torch.cat([counts.new_zeros(1), counts.cumsum(0)])),
            index=self._weight(places),
            weight=self._weight(matrix[rows, places].float()),
            channels=each,
        )

    # --- normalisation ----------------------------------------------------------------------------

    def _scaled(self, x: Ref, weight: Any, bias: Any, length: int, inner: int) -> Ref:
        """Scale and shift each of `length` groups, whose members are `inner` numbers in a row."""
        if isinstance(weight, Ref) or isinstance(bias, Ref):
            raise Inexpressible("its normalisation has weights that depend on the latent")
        if weight is None and bias is None:
            return x
        scale = torch.ones(length) if weight is None else weight.reshape(-1)
        shift = torch.zeros(length) if bias is None else bias.reshape(-1)
        options = {"weight": self._weight(scale), "bias": self._weight(shift), "inner": inner}
        return self._add("scale", [x], x.shape, **options)

    def _batch_norm(self, given: dict[str, Any]) -> Ref:
        if given.get("training", False):
            raise Inexpressible("its batch norm takes the moments of the batch")
        x = given["input"]
        mean, variance = given["running_mean"].double(), given["running_var"].double()
        scale = (variance + given.get("eps", given.get("epsilon"))).rsqrt()
        scale = scale if given["weight"] is None else scale * given["weight"]
        shift = -mean * scale if given["bias"] is None else given["bias"] - mean * scale
        return self._scaled(x, scale, shift, x.shape[1], math.prod(x.shape[2:]))

    def _native_layer_norm(self, given: dict[str, Any], _: tuple[int, ...]) -> list[Ref]:
        x, length = given["input"], math.prod(given["normalized_shape"])
        found = self._add("normalise", [x], x.shape, length=length, eps=given["eps"])
        return [self._scaled(found, given["weight"], given["bias"], length, 1)]

    def _native_group_norm(self, given: dict[str, Any], _: tuple[int, ...]) -> list[Ref]:
        x = given["input"]
        length = x.size // given["group"] // given["N"]
        found = self._add("normalise", [x], x.shape, length=length, eps=given["eps"])
        return [self._scaled(found, given["weight"], given["bias"], given["C"], given["HxW"])]

    def _softmax(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        return self._along("softmax", given, shape)

    def _log_softmax(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        return self._add("log", [self._along("softmax", given, shape)], shape, options=[])

    def _cumprod(self, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        return self._along("cumprod", given, shape)

    def _along(self, kind: str, given: dict[str, Any], shape: tuple[int, ...]) -> Ref:
        """Add a layer that works along a dimension, which is moved to the end for it."""
        x, dim = given["self"], given["dim"]
        places = torch.arange(1, x.size + 1).view(x.shape).movedim(dim, -1)
        last = self._gather([x], places, tuple(places.shape))
        found = self._add(kind, [last], last.shape, length=x.shape[dim])
        back = torch.arange(1, x.size + 1).view(last.shape).movedim(-1, dim)
        return self._gather([found], back, shape)


def _depends(value: Any) -> bool:
    """Return whether arguments have an array that depends on the latent."""
    if isinstance(value, Ref):
        return True
    if isinstance(value, dict):
        return any(_depends(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_depends(item) for item in value)


def _item(found: Any, place: int) -> Any:
    if isinstance(found, list) and place < len(found):
        return found[place]
    raise Inexpressible("it uses the moments that a normalisation has found")


def _without_types(given: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k != "dtype"}
