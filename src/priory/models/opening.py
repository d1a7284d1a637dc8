"""What the programs of every pair open with."""

from __future__ import annotations

import functools
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from priory.nets import Likelihood

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


def is_built(pair: Any, x: Tensor) -> bool:
    """Say whether a pair has its parameters, and raise unless the data suit them.

    Args:
        pair: with the `shape` of a datum that it is built for, None if it is not yet built.
        x: data, `(*batch, *shape)`.

    Raises:
        ValueError: if the data are no batch of real numbers, or the pair is built for another
            shape, precision or device.
    """
    check_real(x)
    if pair.shape is None:
        if not len(x):
            raise ValueError("the pair is built from training data, got x without a row")
        return False
    event = len(pair.shape)
    if x.shape[x.dim() - event :] != pair.shape:
        raise ValueError(
            f"the pair is built for data of shape {pair.shape}, got {tuple(x.shape[1:])}"
        )
    if x.dim() == event:
        raise ValueError(
            f"the pair expects a batch of data of shape {pair.shape}, got one datum: pass x[None]"
        )
    own = _first_parameter(pair)
    if own is not None and own.device != x.device:
        raise ValueError(f"the pair is on {own.device}, got x on {x.device}: pass x.to(...)")
    if own is not None and own.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"the pair is built for data of {own.dtype}, got x of {x.dtype}: pass x.to({own.dtype})"
        )
    return True


def check_real(x: Tensor) -> None:
    """Raise a ValueError unless data are rows of real numbers."""
    if not x.is_floating_point():
        raise ValueError(f"the pair expects real numbers, got x of {x.dtype}: pass x.float()")
    if not x.dim():
        raise ValueError("the pair expects rows of data, got a single number")


def likelihood_built(pair: Any) -> Likelihood:
    """Return a pair's likelihood, as it is once the pair is built.

    Raises:
        RuntimeError: if the pair is not built.
    """
    if pair.shape is None:
        raise RuntimeError(f"{type(pair).__name__} has no parameters yet: call build first")
    likelihood: Likelihood = pair.likelihood
    return likelihood


def _first_parameter(pair: nn.Module) -> Tensor | None:
    """Return one of a pair's parameters; without a search where its places are known."""
    known = vars(pair).get("_registered")
    if known is None:
        return next(pair.parameters(), None)
    _, params = known
    return params[0][0][params[0][1]] if params else None


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
