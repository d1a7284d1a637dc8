"""The options of a training run: what they may be."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, get_args

import torch
from pyro.optim import PyroOptim

from priory.inference.engine.tracing import Mode
from priory.inference.objectives.schedules import Schedule
from priory.inference.phases.precision import Precision
from priory.inference.selection import Criterion

_LEAST = {
    "epochs": 1,
    "steps": 1,
    "batch_size": 1,
    "patience": 1,
    "valid_every": 0,
    "keep": 2,
    "valid_particles": 1,
    "seed": 0,
    "skip_nonfinite": 0,
    "skip": 0,
    "snapshot_every": 0,
}
_WORDS: dict[str, tuple[Any, ...]] = {
    "compile": get_args(Mode),
    "precision": get_args(Precision),
    "resume": (False, True, "auto"),
    "progress": (None, False, True),
    **dict.fromkeys(("watch", "check", "inexact", "overwrite"), (False, True)),
}
_OPTIONAL = {"epochs", "steps", "patience", "clip", "ema"}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `fit` as plain Python numbers, or raise one error that names all errors.

    Args:
        options: those that are to be looked at, by name; `best` and `optim` as objects, `schedule`
            as an object or a name.

    Raises:
        ValueError: with what was given and what is expected, one by one.
    """
    plain = {name: _plain(value) for name, value in options.items()}
    errors = [*_counts(plain), *_numbers(plain), *_choices(plain), *_parts(plain), *_pairs(plain)]
    if errors:
        raise ValueError("; ".join(errors))
    return plain


def check_choice(name: str, value: Any) -> None:
    """Raise a ValueError unless an option has one of the values that it may have."""
    if error := _choice(name, value):
        raise ValueError(error)


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's, anything else as it is."""
    foreign = isinstance(value, torch.Tensor) or type(value).__module__ == "numpy"
    return value.item() if foreign and getattr(value, "ndim", None) == 0 else value


def _counts(options: Mapping[str, Any]) -> Iterator[str]:
    for name, low in _LEAST.items():
        value = options.get(name, low)
        if value is None and name in _OPTIONAL:
            continue
        if type(value) is not int or value < low:
            yield f"{name} must be an integer from {low}, got {value!r}"


def _numbers(options: Mapping[str, Any]) -> Iterator[str]:
    rules: dict[str, tuple[Callable[[float], bool], str]] = {
        "checkpoint_every": (lambda v: v >= 0, "0 or more"),
        "lr": (lambda v: 0 < v < math.inf, "positive"),
        "clip": (lambda v: v > 0, "positive"),
    }
    for name, (holds, words) in rules.items():
        value = options.get(name, 1)
        if not (value is None and name in _OPTIONAL) and not (_is_number(value) and holds(value)):
            yield f"{name} must be {words}, got {value!r}"
    ema = options.get("ema")
    if ema is not None and not (_is_number(ema) and 0 < ema < 1):
        yield f"ema must lie between 0 and 1, got {ema!r}"


def _choices(options: Mapping[str, Any]) -> Iterator[str]:
    for name in _WORDS:
        if name in options and (error := _choice(name, options[name])):
            yield error


def _choice(name: str, value: Any) -> str:
    allowed: Collection[Any] = _WORDS[name]
    if any(value is a or (isinstance(value, str) and value == a) for a in allowed):
        return ""
    return f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"


def _parts(options: Mapping[str, Any]) -> Iterator[str]:
    best, schedule = options.get("best"), options.get("schedule", "constant")
    if not isinstance(best, Criterion | None):
        yield (
            "best must be a Criterion, for instance priory.evaluation.ByMetric('mmd'), got "
            f"{best!r}"
        )
    named = isinstance(schedule, str) and schedule in ("constant", "cosine")
    if not named and not isinstance(schedule, Schedule):
        yield f"schedule must be 'constant', 'cosine' or a Schedule, got {schedule!r}"
    device = options.get("device", "auto")
    if not isinstance(device, str | torch.device):
        yield f"device must be a name such as 'cpu' or a torch.device, got {device!r}"
    if not isinstance(options.get("folder"), str | os.PathLike | None):
        yield f"folder must be a path, got {options['folder']!r}"
    if options.get("on_epoch") is not None and not callable(options["on_epoch"]):
        yield f"on_epoch must be callable, got {options['on_epoch']!r}"
    if "optim" in options:
        yield from _optimiser(options["optim"], options.get("lr", 1e-3))


def _optimiser(optim: Any, lr: Any) -> Iterator[str]:
    """Find out whether something is what `fit` can call with parameters and a learning rate."""
    expected = "a torch optimiser's class or a functools.partial of one"
    if not callable(optim) or isinstance(optim, PyroOptim | torch.optim.Optimizer):
        yield f"optim must be {expected}, got {optim!r}; SVI takes those of pyro.optim"
        return
    own = getattr(optim, "keywords", {}).get("lr", lr)
    if own != lr:
        yield f"optim has lr={own!r}, which fit's lr={lr!r} would overrule; give fit lr={own!r}"
        return
    try:
        made = optim([torch.zeros(1, requires_grad=True)], lr=1e-3)
    except (TypeError, ValueError) as error:
        yield f"optim must be {expected}, and {optim!r} cannot be called as one: {error}"
        return
    if not isinstance(made, torch.optim.Optimizer):
        yield f"optim must be {expected}, got {optim!r}, which makes a {type(made).__name__}"
        return
    closure = inspect.signature(type(made).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        yield f"optim must step without a closure, which {type(made).__name__} asks for"


def _pairs(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("epochs") is not None and options.get("steps") is not None:
        yield "give epochs or steps, not both"
    for name in ("best", "patience"):
        if options.get(name) is not None and options.get("valid_every") == 0:
            yield f"{name} needs evaluations: valid_every must not be 0"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
