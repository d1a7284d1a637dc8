"""Arguments of Pyro programs, bound by name to the data's columns."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

Program = Callable[..., Any]


def bind(program: Program, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the columns that a program's signature names.

    Raises:
        ValueError: if a required argument has no column.
    """
    names, required, keep_all = _signature(getattr(program, "__func__", program))
    if isinstance(program, torch.nn.Module) and keep_all:  # forward(*args, **kwargs) of autoguides
        return dict(columns)
    missing = [n for n in required if n not in columns]
    if missing:
        raise ValueError(
            f"{getattr(program, '__qualname__', program)} needs the argument {missing[0]!r}, "
            f"but the data have the columns {', '.join(columns) or 'none'}; name arguments "
            "after columns"
        )
    return dict(columns) if keep_all else {n: columns[n] for n in names if n in columns}


def build(pair: Any, x: torch.Tensor, columns: Mapping[str, Any]) -> None:
    """Make the parameters of a lazy pair from x and those other columns that its `build` names.

    Args:
        pair: with a method `build`, or without one.
        x: training data.
        columns: the training columns.
    """
    if callable(make := getattr(pair, "build", None)):
        names, _, _ = _signature(getattr(make, "__func__", make))
        make(x, **{n: columns[n] for n in names[1:] if n in columns})


def named(program: Program, args: tuple[Any, ...]) -> dict[str, Any]:
    """Answer positional arguments by the names that a program's signature gives them."""
    if not args:
        return {}
    names, _, _ = _signature(getattr(program, "__func__", program))
    if len(args) > len(names):
        raise ValueError(
            f"the model takes {len(names)} arguments ({', '.join(names)}), got {len(args)}"
        )
    return dict(zip(names, args, strict=False))


@functools.lru_cache(maxsize=256)
def _signature(function: Program) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names, required names, and whether any keyword is taken."""
    target = function.forward if isinstance(function, torch.nn.Module) else function
    names, required, keep_all = [], [], False
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            keep_all = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and name != "self":
            names.append(name)
            if parameter.default is parameter.empty:
                required.append(name)
    return tuple(names), tuple(required), keep_all
