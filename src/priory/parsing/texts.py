"""Parts written as text, `vamp:100` or `reconstruction + 10*match:mmd`, by their signatures.

A part is `name`, `name:argument` or `name:key=value`; a part inside of a part stands in brackets,
`elbo:beta=(linear:0:1:1000)`; lists have commas, `mlp:200,200`. What may be written is read from
the constructor: its names, types and defaults stand there and nowhere else.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union

import torch
from torch import nn

from priory.divergences import DIVERGENCES, Divergence
from priory.inference import Criterion, Logger
from priory.inference.loggers import LOGGERS
from priory.inference.objectives import OBJECTIVES, SCHEDULES, Objective, Schedule
from priory.likelihoods import LIKELIHOODS, Likelihood
from priory.lookup import named, suggestion
from priory.nets import (
    AUTOREGRESSIVE,
    CRITICS,
    FLOWS,
    NETS,
    TIMED,
    AutoregressiveNet,
    Critic,
    FlowNet,
    Net,
    TimedNet,
)
from priory.posteriors import POSTERIORS, Posterior
from priory.priors import PRIORS, Prior
from priory.signatures import REQUIRED, Collector, Errors, Option, number, options_of, split


def parse(kind: str, text: str, table: Mapping[str, Callable[..., Any]]) -> Any:
    """Build a part from its text.

    Args:
        kind: what the table holds, in the singular, for messages.
        text: `name`, `name:argument`, `name:key=value`.
        table: classes, or functions that make the part, by name.

    Raises:
        Errors: naming every error, with the nearest name where one is unknown.

    Example:
        >>> parse("prior", "vamp:100", PRIORS).components
        100
    """
    target, values = _arguments(kind, text, table)
    errors = Collector()
    lacking = [n for n, o in options_of(target).items() if o.default is REQUIRED]
    errors.found += [f"{text}: {n} is needed" for n in lacking if n not in values]
    errors.check()
    made = errors.attempt(target, **values, prefix=f"{text}: ")
    errors.check()
    return made


def parse_function(
    kind: str, text: str, table: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """Return a function from its text, with the arguments by name that the text sets.

    Args:
        kind: what the table holds, in the singular, for messages.
        text: `name` or `name:key=value`.
        table: functions by name; their first arguments, without defaults, are left to the caller.

    Raises:
        Errors: naming every error, with the nearest name where one is unknown.

    Example:
        >>> from priory.divergences import DIVERGENCES
        >>> parse_function("divergence", "mmd:kernel=rbf", DIVERGENCES).keywords
        {'kernel': 'rbf'}
    """
    target, values = _arguments(kind, text, table, plain=True)
    return functools.partial(target, **values) if values else target


def parse_objective(text: str) -> Objective:
    """Build an objective: a part, or a sum of parts with weights.

    Raises:
        Errors: naming every error of every term.

    Example:
        >>> len(parse_objective("reconstruction + 10*match:mmd").terms())
        2
    """
    errors = Collector()
    terms = []
    for term in split(text, "+"):
        *weights, part = split(term, "*")
        objective = errors.attempt(parse, "objective", part, OBJECTIVES)
        for weight in weights:
            factor = errors.attempt(
                convert, weight, float | Schedule, prefix=f"{term}: the weight "
            )
            if objective is not None and factor is not None:
                objective = factor * objective
        terms.append(objective)
    errors.check()
    total: Objective | None = errors.attempt(functools.reduce, operator.add, terms)
    errors.check()
    assert total is not None  # noqa: S101
    return total


def _arguments(
    kind: str, text: str, table: Mapping[str, Callable[..., Any]], plain: bool = False
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what a text names, and the arguments that it sets, of those with defaults if plain."""
    name, *arguments = split(text, ":")
    target = named(kind, name, table)
    if getattr(target, "text_whole", False):
        arguments = _joined(arguments)
    options = options_of(target)
    if plain:
        options = {n: o for n, o in options.items() if o.default is not REQUIRED}
    values: dict[str, Any] = {}
    errors = Collector()
    for place, argument in enumerate(arguments):
        key, sign, value = (part.strip() for part in argument.partition("="))
        if not sign or key.startswith("("):  # a part in brackets may have arguments of its own
            if place >= len(options):
                takes = ", ".join(options) or "no argument"
                errors.found.append(f"{text}: too many arguments, {name} takes {takes}")
                break
            key, value = list(options)[place], argument
        keyed = getattr(target, "keyed", None)
        if keyed is not None and key not in options:  # what is written key by key, as columns are
            held = values.setdefault(keyed, {})
            if key in held:
                errors.found.append(f"{text}: {key} is given twice")
            part = errors.attempt(parse, kind, unbracket(value), table, prefix=f"{text}: ")
            held[key] = part
            continue
        key = key.replace("-", "_")
        option = errors.attempt(named, f"argument of {name}", key, options, prefix=f"{text}: ")
        if option is not None:
            if key in values:
                errors.found.append(f"{text}: {key} is given twice")
            values[key] = errors.attempt(read, option, value, prefix=f"{text}: ")
    errors.check()
    return target, values


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return arguments where the first may have colons: up to the first that is key=value."""
    first = [*itertools.takewhile(lambda a: not re.match(r"\w+=", a), arguments)]
    return [":".join(first)] * bool(first) + [*arguments[len(first) :]]


OPTIMS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def read(option: Option, text: Any) -> Any:
    """Return the value that a text stands for; what is no text is taken as it is.

    Args:
        option: which argument it is for.
        text: what the user wrote.

    Raises:
        Errors: naming the option, what was expected, and what was given.
    """
    if not isinstance(text, str):
        return text
    try:
        return convert(text, option.annotation, option.default)
    except Errors:
        raise
    except ValueError as error:
        own = str(error).startswith(("must ", "takes "))
        raise Errors([f"{option.name} {error}" if own else str(error)]) from error


class _Criteria(Mapping[str, Callable[..., Any]]):
    """The criteria by name; the evaluation, which has them, is imported when they are looked at."""

    @functools.cached_property
    def _table(self) -> Mapping[str, Callable[..., Any]]:
        from priory.evaluation.criterion import CRITERIA

        return CRITERIA

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


_PARTS: dict[type, tuple[str, Mapping[str, Callable[..., Any]]]] = {
    Prior: ("prior", PRIORS),
    Posterior: ("posterior", POSTERIORS),
    Likelihood: ("likelihood", LIKELIHOODS),
    AutoregressiveNet: ("autoregressive net", AUTOREGRESSIVE),
    FlowNet: ("flow", FLOWS),
    TimedNet: ("net with a time", TIMED),
    Critic: ("critic", CRITICS),
    Net: ("net", NETS),
    nn.Module: ("net", NETS),
    Schedule: ("schedule", SCHEDULES),
    Objective: ("objective", OBJECTIVES),
    Criterion: ("metric", _Criteria()),
    Logger: ("logger", LOGGERS),
}
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def part_of(annotation: Any) -> str:
    """Return which kind of part an annotation admits, "" for none."""
    kinds = [_PARTS[t][0] for t in _members(annotation) if isinstance(t, type) and t in _PARTS]
    return kinds[0] if kinds else ""


def names_of(kind: str) -> list[str]:
    """Return the names of the parts of a kind.

    Args:
        kind: as `part_of` returns it.

    Example:
        >>> names_of("schedule")
        ['cosine', 'exponential', 'linear']
    """
    return [*next(table for known, table in _PARTS.values() if known == kind)]


def convert(text: str, annotation: Any, default: Any = REQUIRED) -> Any:
    """Return the value of an annotated type that a text stands for.

    Args:
        text: what the user wrote.
        annotation: the type, as a signature has it.
        default: a default that is text stands for itself ("auto").

    Raises:
        ValueError: saying what was expected and what was given.
    """
    text = text.strip()
    members = _members(annotation)
    if types.NoneType in members and text.lower() in ("none", "null"):
        return None
    if text == default:
        return text
    for member in members:
        value = _plain(text, member)
        if value is not None:
            return value
    for member in members:
        if isinstance(member, type) and member in _PARTS:
            kind, table = _PARTS[member]
            inner = unbracket(text)
            if text != inner or len(members) < 2 or str in members or split(text, ":")[0] in table:
                return parse_objective(inner) if table is OBJECTIVES else parse(kind, inner, table)
    if str in members or annotation in (Any, types.NoneType, REQUIRED):
        return text
    choices = [a for m in members if typing.get_origin(m) is Literal for a in typing.get_args(m)]
    parts = [n for m in members if isinstance(m, type) and m in _PARTS for n in _PARTS[m][1]]
    near = suggestion(text.partition(":")[0], [*map(str, choices), *parts])
    raise ValueError(f"must be {describe(annotation)}, got {text!r}{near}")


def describe(annotation: Any) -> str:
    """Return what may be written for a type, as text."""
    words = []
    for member in _members(annotation):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if origin is Literal:
            words += [repr(a) for a in arguments]
        elif origin in (tuple, Sequence, list):
            inner = _WORDS.get(arguments[0], "value").removeprefix("a ")
            words.append(f"{inner}s with commas between" if arguments else "a list")
        elif isinstance(member, type) and member in _PARTS:
            kind, table = _PARTS[member]
            words.append(f"a {kind} ({', '.join(table)})")
        elif member is not types.NoneType:
            words.append(_WORDS.get(member, "something else"))
        else:
            words.append("none")
    return " or ".join(words)


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union, the strictest first."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    members = list(typing.get_args(annotation)) if union else [annotation]
    return sorted(members, key=lambda t: (t is float) + 2 * (t is str))


def _plain(text: str, member: Any) -> Any:
    """Return the value of one plain type, or None if the text is none of it."""
    origin, arguments = typing.get_origin(member), typing.get_args(member)
    if origin is Literal:
        return next((a for a in arguments if str(a) == text), None)
    if member is bool:
        return _TRUTHS.get(text.lower())
    if member in (int, float):
        return number(text, member)
    if member == Divergence:
        return parse_function("divergence", unbracket(text), DIVERGENCES)
    if origin in (tuple, Sequence, list):
        parts = split(text, ",")
        if not all(parts):
            raise ValueError(f"must be {describe(member)}, got {text!r}")
        return tuple(convert(part, arguments[0] if arguments else str) for part in parts)
    if origin is Mapping:
        pairs = [part.split("=") for part in split(text, ",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"must be key=value with commas between, got {text!r}")
        return dict(pairs)
    if origin is Callable and arguments[-1] is torch.optim.Optimizer:
        name, *rest = split(text, ":")
        target = named("optimiser", name, OPTIMS)
        return functools.partial(target, **_keywords(target, rest)) if rest else target
    return None


def _keywords(target: Callable[..., Any], arguments: list[str]) -> dict[str, Any]:
    options = options_of(target)
    values = {}
    for argument in arguments:
        key, sign, text = (part.strip() for part in argument.partition("="))
        if not sign:
            raise ValueError(f"takes key=value arguments only, got {argument!r}")
        option = named("argument of the optimiser", key, options)
        if key in values:
            raise ValueError(f"takes each argument once, got {key} twice")
        values[key] = read(option, text)
    return values


def unbracket(text: str) -> str:
    """Return a text without the brackets around the whole of it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
