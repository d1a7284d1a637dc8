"""A signature as options: names, types, defaults and what the docstring says of each."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
REQUIRED = inspect.Parameter.empty


class Errors(ValueError):
    """Several errors of one request, reported together.

    Args:
        errors: the errors, one sentence each.
    """

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(self.errors))


class Failures(Errors):
    """Several things that failed on the way, not wrong requests, reported together."""


class Collector:
    """Collects the errors of several calls, so that all of them can be reported at once.

    Attributes:
        found: the errors so far, one sentence each.

    Example:
        >>> errors = Collector()
        >>> errors.attempt(int, "7")
        7
        >>> errors.attempt(int, "x", prefix="seed: ")
        >>> errors.found
        ["seed: invalid literal for int() with base 10: 'x'"]
        >>> errors.check()
        Traceback (most recent call last):
        priory.signatures.Errors: seed: invalid literal for int() with base 10: 'x'
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(
        self, do: Callable[..., T], *args: Any, prefix: str = "", **kwargs: Any
    ) -> T | None:
        """Return `do(*args, **kwargs)`; after a ValueError None, with the error added.

        Args:
            do: what to call.
            args: its arguments.
            prefix: put before each error.
            kwargs: its arguments by name.
        """
        try:
            return do(*args, **kwargs)
        except ValueError as error:
            errors = error.errors if isinstance(error, Errors) else [str(error)]
            self.found += [prefix + text for text in errors]
            return None

    def check(self) -> None:
        """Raise all errors so far as one, each once.

        Raises:
            Errors: if there are any.
        """
        if self.found:
            raise Errors(dict.fromkeys(self.found))


@dataclass(frozen=True)
class Option:
    """One argument of a part: what may be written for it, and what it does.

    Args:
        name: its name in the signature.
        annotation: its type.
        default: its default, `REQUIRED` if it has none.
        help: what the docstring says of it.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    help: str = ""


def options_of(target: Callable[..., Any]) -> dict[str, Option]:
    """Return the arguments of a class or function by name, without those that take any number.

    They are in the order in which a text gives them: those of the class's `text_first`, where it
    has one, come before the others.
    """
    function = target.__init__ if inspect.isclass(target) else target
    hints = hints_of(function)
    helps = arguments_of(inspect.getdoc(target) or "")
    options = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(name, type(parameter.default))
        options[name] = Option(name, annotation, parameter.default, helps.get(name, ""))
    first = {name: options.pop(name) for name in getattr(target, "text_first", ())}
    return {**first, **options}


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's arguments, but those imported for type checkers only."""
    found: dict[str, Any] = {}
    for name, given in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: given})
        with contextlib.suppress(NameError):
            found |= typing.get_type_hints(one, inspect.unwrap(function).__globals__)
    return found


def arguments_of(doc: str) -> dict[str, str]:
    """Return what a docstring says of each argument, on one line."""
    found = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    parts = re.split(r"^ {4}\*{0,2}(\w+): ", found[1], flags=re.MULTILINE)[1:] if found else []
    return {n: " ".join(text.split()) for n, text in zip(parts[::2], parts[1::2], strict=True)}


def summary(target: Any) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    first = " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", first)[0]


def split(text: str, sign: str) -> list[str]:
    """Split a text at a sign outside of brackets; the plus of an exponent (1e+3) is none.

    Raises:
        ValueError: if its brackets do not match.
    """
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == sign and not depth:
            if sign == "+" and re.search(r"\d[eE]$", text[max(0, i - 2) : i]):
                continue
            parts.append(text[start:i].strip())
            start = i + 1
    if depth:
        raise ValueError(f"{text}: its brackets do not match")
    return [*parts, text[start:].strip()]


def number(text: str, kind: type) -> Any:
    """Return the finite number of 64 bits that a text writes in plain digits, else None."""
    if not re.fullmatch(r"[-+.\deE]+", text, re.ASCII):
        return None
    try:
        found = kind(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and (kind is float or abs(found) < 2**63) else None
