"""Objects to plain values and back: a configuration is a constructor's signature, filled in."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch

from priory.registry import registered

Plain = Any
_PASS = "pass the object itself, for instance load(folder, pair=MyPair())"
_PACKAGES = (
    "models",
    "priors",
    "posteriors",
    "likelihoods",
    "nets",
    "divergences",
    "inference",
    "evaluation",
)
_KINDS = ("Module", "Objective", "Schedule", "Criterion", "Stage")
_MOST = 1_000_000  # values of a configuration
_SCALARS = (str, int, float, bool, type(None))

# Parts that runs of version 0.1 name by the file that then held them, for each public package.
_BY_FILE = {
    "priory.evaluation": {"criterion": "ByMetric"},
    "priory.inference": {
        "adversary": "Adversarial",
        "objectives": "Scaled Sum",
        "schedules": "Cosine Exponential Linear",
        "terms": "Classification Match Reconstruction Sleep",
        "variational": "ELBO IWAE KL Renyi",
    },
    "priory.models": {
        "aae": "AAE",
        "conditional": "CVAE ConditionalGAN",
        "cyclegan": "CycleGAN",
        "gan": "GAN",
        "glo": "GLO",
        "infogan": "InfoGAN",
        "stacked": "StackedGAN",
        "vae": "VAE",
    },
    "priory.nets": {
        "base": "Wrapped",
        "conv": "Conv Deconv",
        "critics": "Joint Planes Projection",
        "dcgan": "DCGAN DCGANCritic",
        "fourier": "Fourier",
        "mlp": "MLP",
        "resnet": "ResNet",
        "sets": "DeepMean TwoSample",
    },
    "priory.priors": {
        "flow": "Flow",
        "mixture": "GaussianMixture",
        "normal": "Normal",
        "sticks": "StickBreaking",
        "uniform": "Uniform",
        "vamp": "VampPrior",
    },
}
FORMER = {  # former names of parts: a part that moves gets a row more
    f"{package}.{file}.{name}": f"{package}.{name}"
    for package, files in _BY_FILE.items()
    for file, names in files.items()
    for name in names.split()
}
FORMER |= {  # likelihoods were among the nets
    f"{place}.{name}": f"priory.likelihoods.{name}"
    for place in ("priory.nets", "priory.nets.likelihoods")
    for name in ("Bernoulli", "ContinuousBernoulli", "Delta", "DiscretizedLogistic", "Normal")
}
FORMER["priory.inference.Pair"] = "priory.inference.Programs"
FORMER_ARGUMENTS = {
    "priory.evaluation.ByMetric": {"samples": "n_samples"}
}  # of a part's constructor


def to_config(value: Any) -> Plain:
    """Return plain values (dicts, lists, numbers, text) from which `from_config` builds the same.

    An object becomes its class and its constructor's arguments, each read from the attribute of
    the same name; a function becomes its import path. Priory's own parts are written by their
    public names, such as `priory.inference.Match`, whatever file holds them. What cannot be
    written so (a lambda, a class that does not keep its arguments) becomes a note that says so,
    which `from_config` refuses.

    Args:
        value: object, function, number, text, list or dict.

    Raises:
        ValueError: if it holds a part of Priory that has no public name.

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
    """Build what `to_config` wrote down.

    Imports nothing but Priory's own modules, and builds nothing but their pairs, nets, priors,
    objectives, schedules and criteria, and what those hold; of functions, only divergences.

    Raises:
        ValueError: if the configuration names anything else, or is not one that `to_config` wrote.
    """
    todo, count = [config], 0
    while todo and count <= _MOST:  # references within a file can make a tree of any size
        value, count = todo.pop(), count + 1
        if isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
    if todo:
        raise ValueError(f"the configuration has more than {_MOST:,} values; write it anew")
    try:
        return _build(config)
    except RecursionError as error:
        raise ValueError("the configuration is nested too deeply; write it anew") from error


def _build(config: Plain) -> Any:
    if isinstance(config, list):
        return [_build(v) for v in config]
    if not isinstance(config, dict):
        return config
    if "unwritable" in config:
        raise ValueError(
            f"{config['unwritable']}, so it cannot be rebuilt from its configuration; {_PASS}"
        )
    if "function" in config:
        _only(config, "function")
        return locate(config["function"])
    arguments = {k: _build(v) for k, v in config.items() if k not in ("class", "partial")}
    path = str(config["class"]) if "class" in config else ""
    renamed = FORMER_ARGUMENTS.get(FORMER.get(path, path), {})
    arguments = {renamed.get(k, k): v for k, v in arguments.items()}
    if "partial" in config:
        _only(config["partial"], "function")
        target = _build(config["partial"])
        return _call(target, config["partial"]["function"], arguments, held=True)
    if "class" not in config:
        return arguments
    target = locate(config["class"])
    if not inspect.isclass(target):
        raise ValueError(f"{config['class']} is no class; write the configuration anew")
    return _call(target, config["class"], arguments)


def locate(path: Any) -> Callable[..., Any]:
    """Return one of Priory's own parts by its public name, or a former one: a class or divergence.

    A part that somebody else has registered is found by the path of its class.

    Raises:
        ValueError: if it is not Priory's and not registered, no part, or does not exist.
    """
    package, _, name = FORMER.get(str(path), str(path)).rpartition(".")
    if (own := registered(str(path))) is not None and package.split(".")[0] != "priory":
        return typing.cast(Callable[..., Any], own)
    if package.split(".")[0] != "priory":
        raise ValueError(
            f"{path} is not a part of Priory, and reading a configuration runs no other code; "
            f"{_PASS}"
        )
    folder = package.removeprefix("priory.")
    if folder not in _PACKAGES or name not in _public(package):
        raise ValueError(f"this version of Priory has no part {path}; {_PASS}")
    found = getattr(importlib.import_module(package), name)
    if not _is_part(found) and not (inspect.isfunction(found) and folder == "divergences"):
        raise ValueError(
            f"{path} is no part that a configuration may name: a pair, net, prior, objective, "
            f"schedule, criterion or divergence; {_PASS}"
        )
    return typing.cast(Callable[..., Any], found)


def _public(package: str) -> list[str]:
    """Return the public names of one of the packages that have parts."""
    names: list[str] = importlib.import_module(package).__all__
    return names


def _is_part(value: Any) -> bool:
    """Return whether a value is a class of parts that can be built."""
    kinds = inspect.isclass(value) and any(base.__name__ in _KINDS for base in value.__mro__)
    return kinds and not inspect.isabstract(value)


def _only(config: Plain, key: str) -> None:
    if not isinstance(config, dict) or set(config) != {key}:
        raise ValueError(f"{config!r} should hold {key!r} alone; write the configuration anew")


def _call(
    target: Callable[..., Any], path: str, arguments: dict[str, Any], held: bool = False
) -> Any:
    """Call a part's constructor, or hold a function's arguments for it.

    Raises:
        ValueError: if the arguments are not the part's, or it refuses one; it names the part. What
            else the constructor raises, for want of an extra or by an error of its own, is left.
    """
    signature = inspect.signature(target)
    try:
        bind = signature.bind_partial if held else signature.bind
        bound = bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path} cannot be built from its configuration: {error}") from error
    hints = _hints(target)
    for name, value in bound.arguments.items():
        values = value if isinstance(value, tuple) else [value]
        if not all(_suits(v, hints.get(name, Any)) for v in values):
            raise ValueError(
                f"{path} cannot be built from its configuration: {name} can't be {value!r}"
            )
    if held:
        return functools.partial(target, **arguments)
    try:
        return target(**arguments)
    except ValueError as error:
        raise ValueError(f"{path} cannot be built from its configuration: {error}") from error


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # a type that is imported for type checkers only
        return {}


def _suits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type, as far as that can be checked, and finite."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if union else (hint,)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, list):
        inner = [m for m in members if typing.get_origin(m) in (list, tuple, Sequence)]
        items = typing.get_args(inner[0])[:1] if inner else ()
        return bool(inner) and all(_suits(v, item) for v in value for item in items)
    if isinstance(value, dict):
        return Any in members or any(typing.get_origin(m) in (dict, Mapping) for m in members)
    if not isinstance(value, _SCALARS):
        return not all(map(inspect.isclass, members)) or isinstance(value, members)
    plain = {type(value)} | ({float} if type(value) is int else set())
    choices = [a for m in members if typing.get_origin(m) is typing.Literal for a in m.__args__]
    return Any in members or value in choices or bool(plain & {*members})


def _function(value: Any) -> Plain:
    path = _path(value)
    return {"unwritable": f"{path} has no import path"} if "<" in path else {"function": path}


def _object(value: Any) -> Plain:
    kind = type(value)
    path = _path(kind)
    out: dict[str, Plain] = {"class": path}
    try:
        parameters = inspect.signature(kind).parameters
    except ValueError:  # a tensor, an array
        return {"unwritable": f"a {path} is no part by a constructor's arguments"}
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            return {"unwritable": f"{path}: its arguments *{name} have no names; take a tuple"}
        if not hasattr(value, name):
            return {"unwritable": f"{path}: its argument {name!r} is not kept as self.{name}"}
        held = getattr(value, name)
        # A pair's encoder is made of a net, which is what the pair's constructor is given.
        out[name] = to_config(getattr(held, "constructor_argument", held))
    return out


def _path(value: Any) -> str:
    """Return the import path of a class or function; of Priory's own the public one.

    Raises:
        ValueError: if it is Priory's own and not public.
    """
    top, _, rest = value.__module__.partition(".")
    if top != "priory":
        return f"{value.__module__}.{value.__qualname__}"
    folder, name = rest.partition(".")[0], value.__name__
    package = f"priory.{folder}"
    public = folder in _PACKAGES and name in _public(package)
    if public and getattr(importlib.import_module(package), name) is value:
        return f"{package}.{name}"
    raise ValueError(
        f"{value.__module__}.{value.__qualname__} has no public name in Priory, by which a "
        "configuration could name it: use a public part, or a class of your own"
    )
