"""What the programs of every pair open with."""

from __future__ import annotations

import functools
from typing import Any

import pyro
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

_Sizes = list[tuple[dict[str, Any], int]]
_Params = list[tuple[dict[str, Any], str, str, bool]]


def register(name: str, module: nn.Module) -> None:
    """Register a module's parameters in Pyro's store: `pyro.module`, without its price.

    `pyro.module` sends a message for each parameter, which takes longer than all else that Python
    does in a step. Where every handler at work says that it hears sites alone, and the store has
    the very parameters of the module, there is nothing to say.

    Args:
        name: of the module in the store.
        module: whose parameters are trained.
    """
    known = vars(module).get("_registered")
    if known is not None and _unheard() and _unchanged(*known):
        return
    pyro.module(name, module)
    vars(module)["_registered"] = _places(name, module)


def plate(name: str, pair: Any, x: Tensor) -> pyro.plate:
    """Build a pair where it is not, register its parameters, and answer the plate of a batch.

    Args:
        name: of the pair in Pyro's store.
        pair: with `build`, and the `shape` of a datum that it is built for.
        x: data, `(*batch, *shape)`.
    """
    pair.build(x)
    register(name, pair)
    return batch_plate(x.shape[-1 - len(pair.shape)])


def is_built(shape: tuple[int, ...] | None, x: Tensor) -> bool:
    """Say whether a pair has its parameters, and raise unless they suit the data.

    Args:
        shape: of a datum, as the pair is built for; None if it is not yet built.
        x: data, `(*batch, *shape)`.

    Raises:
        ValueError: if the pair is built for another shape, or the data are no real numbers.
    """
    if shape is None:
        return False
    if x.shape[x.dim() - len(shape) :] != shape:
        raise ValueError(f"the pair is built for data of shape {shape}, got {tuple(x.shape[1:])}")
    check_real(x)
    return True


def check_real(x: Tensor) -> None:
    """Raise a ValueError unless data are real numbers."""
    if not x.is_floating_point():
        raise ValueError(f"the pair expects real numbers, got x of {x.dtype}: pass x.float()")


def _places(name: str, module: nn.Module) -> tuple[_Sizes, _Params]:
    """Answer where a module's parts and parameters are, and the parameters' names in the store."""
    sizes: _Sizes = []
    params: _Params = []
    for path, part in module.named_modules():
        lead = f"{name}$$${path}." if path else f"{name}$$$"
        own, parts = part._parameters, part._modules
        sizes += [(own, len(own)), (parts, len(parts))]
        params += [(own, k, lead + k, p.requires_grad) for k, p in own.items() if p is not None]
    return sizes, params


def _unchanged(sizes: _Sizes, params: _Params) -> bool:
    """Say whether a module has the parts that it had, and the store their parameters."""
    store = pyro.get_param_store()._params
    for own, n in sizes:
        if len(own) != n:
            return False
    for own, key, stored, trained in params:
        p = own[key]
        if p is None or p.requires_grad != trained or (trained and store.get(stored) is not p):
            return False
    return True


def batch_plate(rows: int) -> pyro.plate:
    """Answer the plate `data` of a whole batch, made anew only where a handler may hear of it.

    Args:
        rows: of the batch.
    """
    return _plate(rows) if _unheard() else pyro.plate("data", rows, dim=-1)


@functools.lru_cache(maxsize=64)
def _plate(rows: int) -> pyro.plate:
    return pyro.plate("data", rows, dim=-1)


def _unheard() -> bool:
    """Say whether every handler at work hears sites alone, neither parameters nor plates."""
    return all(getattr(h, "hears_sites_alone", False) for h in _PYRO_STACK)
