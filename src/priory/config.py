"""Objects to plain values and back: a configuration is a constructor's signature, filled in."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import torch

Plain = Any
_PASS = "pass the object itself, for instance load(folder, pair=MyPair())"
_SCALARS = (str, int, float, bool, type(None))


def to_config(value: Any) -> Plain:
    """Answer plain values (dicts, lists, numbers, text) from which `from_config` builds the same.

    An object becomes its class and its constructor's arguments, each read from the attribute of
    the same name; a function becomes its import path. What cannot be written so (a lambda, a class
    that does not keep its arguments) becomes a note that says so, which `from_config` refuses.

    Args:
        value: object, function, number, text, list or dict.

    Example:
        >>> to_config({"steps": (1, 2)})
        {'steps': [1, 2]}
    """
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        return {str(k): to_config(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_config(v) for v in value]
    if isinstance(value, PurePath | torch.device):
        return str(value)
    if isinstance(value, functools.partial):
        return {"partial": to_config(value.func), **to_config(value.keywords)}
    if inspect.isroutine(value) or inspect.isclass(value):
        return _function(value)
    return _object(value)


def from_config(config: Plain) -> Any:
    """Build what `to_config` wrote down. Imports nothing but Priory's own modules.

    Raises:
        ValueError: if the configuration names code outside of Priory, or was not writable.
    """
    if isinstance(config, list):
        return [from_config(v) for v in config]
    if not isinstance(config, dict):
        return config
    if "unwritable" in config:
        raise ValueError(
            f"{config['unwritable']}, so it cannot be rebuilt from its configuration; {_PASS}"
        )
    if "function" in config:
        return locate(config["function"])
    if "partial" in config:
        keywords = {k: from_config(v) for k, v in config.items() if k != "partial"}
        return functools.partial(from_config(config["partial"]), **keywords)
    if "class" not in config:
        return {k: from_config(v) for k, v in config.items()}
    target = locate(config["class"])
    arguments = {k: from_config(v) for k, v in config.items() if k != "class"}
    parameters = inspect.signature(target).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    if inspect.Parameter.VAR_POSITIONAL not in kinds.values():
        return target(**arguments)
    positional: list[Any] = []
    for name, kind in kinds.items():
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional += arguments.pop(name, [])
        elif kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            positional.append(arguments.pop(name))
    return target(*positional, **arguments)


def locate(path: str) -> Callable[..., Any]:
    """Answer one of Priory's own classes or functions by its import path.

    Raises:
        ValueError: if it is not Priory's, or does not exist.
    """
    module, _, name = path.rpartition(".")
    if module.split(".")[0] != "priory":
        raise ValueError(
            f"{path} is not a part of Priory, and reading a configuration runs no other code; "
            f"{_PASS}"
        )
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"this version of Priory has no {path}") from error
    return found


def _function(value: Any) -> Plain:
    path = f"{value.__module__}.{value.__qualname__}"
    return {"unwritable": f"{path} has no import path"} if "<" in path else {"function": path}


def _object(value: Any) -> Plain:
    kind = type(value)
    path = f"{kind.__module__}.{kind.__qualname__}"
    out: dict[str, Plain] = {"class": path}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if not hasattr(value, name):
            return {"unwritable": f"{path}: its argument {name!r} is not kept as self.{name}"}
        out[name] = to_config(getattr(value, name))
    return out
