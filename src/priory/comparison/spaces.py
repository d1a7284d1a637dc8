"""What a search is over: the values that each option may take, as text or as objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from priory.comparison.parts import comma_list, spell
from priory.lookup import named
from priory.signatures import Collector, Option, number


@dataclass(frozen=True)
class Range:
    """The numbers between two ends, which belong to it.

    Args:
        low: The lower end.
        high: The upper end.
        log: Whether equal ratios are alike, instead of equal differences.
        whole: Whether it is of integers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that a trial tries."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def values(self) -> list[Any]:
        """Return values to prove that an option takes: the ends."""
        ends = [self.low, self.high]
        return [int(end) for end in ends] if self.whole else ends

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """A few values by their labels.

    Args:
        known: Values by label.
    """

    known: Mapping[str, Any]

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that a trial tries."""
        return self.known[trial.suggest_categorical(name, [*self.known])]

    def values(self) -> list[Any]:
        """Return values to prove that an option takes: all."""
        return [*self.known.values()]

    def __str__(self) -> str:
        return ", ".join(self.known)


Space = Range | Choices


def read_spaces(search: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Space]:
    """Return the spaces of a search by the options' names.

    Args:
        search: By the names of options: text, `1e-4..1e-2:log` or `normal,vamp:50`, or a list of
            values.
        options: Those that there are, by which the values are read; any if there are none.

    Raises:
        Errors: Naming each option whose values cannot be read.

    Example:
        >>> print(read_spaces({"lr": "1e-4..1e-2:log"}, {})["lr"])
        0.0001..0.01:log
    """
    errors = Collector()
    found = {}
    if not search:
        errors.found.append("give what to search, for instance lr=1e-4..1e-2:log")
    for name, given in search.items():
        key = name.replace("-", "_")
        bare = key.removeprefix("pair.")
        if not options or errors.attempt(named, "option", bare, options) is not None:
            found[key] = errors.attempt(_read, key, given, options.get(bare))
    errors.check()
    return {name: space for name, space in found.items() if space is not None}


def read_search(texts: Sequence[str]) -> dict[str, str]:
    """Return what was typed as `name=values`, by name.

    Raises:
        Errors: Naming each text that is not of that form, or whose name was there before.

    Example:
        >>> read_search(["lr=1e-4..1e-2:log", "prior=normal,vamp:50"])
        {'lr': '1e-4..1e-2:log', 'prior': 'normal,vamp:50'}
    """
    errors, found = Collector(), dict[str, str]()
    for text in texts:
        name, sign, values = (part.strip() for part in text.partition("="))
        if not sign or not name or not values:
            errors.found.append(
                "search must be name=values, for instance lr=1e-4..1e-2:log or latent=2,8,32; got "
                f"{text!r}"
            )
        elif name in found:
            errors.found.append(f"search has {name} twice: give all of its values at once")
        found[name] = values
    errors.check()
    return found


def _read(name: str, given: Any, option: Option | None) -> Space:
    if isinstance(given, Range | Choices):
        return given
    if not isinstance(given, str):
        values = list(given) if isinstance(given, Sequence) else [given]
        return _choices(name, {_label(value): value for value in values}, len(values))
    if ".." in given:
        return _range(name, given, option is not None and option.annotation is float)
    plain = option is not None and option.annotation in (int, float, int | None, float | None)
    parts = [p.strip() for p in given.split(",")] if plain else comma_list(given)
    return _choices(name, {part: part for part in parts}, len(parts))


def _choices(name: str, known: dict[str, Any], count: int) -> Choices:
    if count < 2 or len(known) < count or "" in known:
        raise ValueError(
            f"search: {name} needs two different values at least, got {', '.join(known)}"
        )
    return Choices(known)


def _range(name: str, text: str, real: bool) -> Range:
    ends, _, scale = text.partition(":")
    low, _, high = (part.strip() for part in ends.partition(".."))
    whole = not real and bool(re.fullmatch(r"-?\d+", low) and re.fullmatch(r"-?\d+", high))
    kind = int if whole else float
    first, last = number(low, kind), number(high, kind)
    if first is None or last is None or scale not in ("", "log"):
        raise ValueError(
            f"search: {name} must be low..high or low..high:log, for instance 1e-4..1e-2:log, got "
            f"{text!r}"
        )
    if not first < last or (scale and first <= 0):
        needs = "positive numbers, the smaller first" if scale else "the smaller number first"
        raise ValueError(f"search: {name} needs {needs}, got {text!r}")
    return Range(first, last, bool(scale), whole)


def _label(value: Any) -> str:
    plain = value is None or isinstance(value, bool | int | float | str)
    return str(value) if plain else spell(value)
