"""The command line's grammar: options from signatures, all errors reported, readable help."""

from __future__ import annotations

import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from priory.parsing import part_of, read
from priory.signatures import REQUIRED, Collector, Option

Groups = Mapping[str, Mapping[str, Option]]

_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_COLUMN = 30
_SWITCHED = {
    **dict.fromkeys(("true", "yes", "on"), "true"),
    **dict.fromkeys(("false", "no", "off"), "false"),
}


@dataclass(frozen=True)
class Command:
    """What may follow a verb, and what the verb does with it.

    An option's long name (`data.seed`) can be cut to its last part (`seed`) where no other option
    has that.

    Args:
        usage: the first line of its help.
        about: what it does.
        groups: options by the heading under which the help shows them.
        act: does the work of a request whose options were read; raises what is wrong with it
            before it loads anything.
        positional: name and meaning of the argument that comes first, if there is one; any number
            of them may come if the name ends in dots.
        examples: whole lines to type.
        repeated: long names of options that may be typed several times; their texts come on a line
            each.
    """

    usage: str
    about: str
    groups: Groups
    act: Callable[[Request], None]
    positional: tuple[str, str] | None = None
    examples: Sequence[str] = field(default=())
    repeated: Sequence[str] = field(default=())

    @property
    def options(self) -> dict[str, Option]:
        """All options, by their long names."""
        return {name: option for group in self.groups.values() for name, option in group.items()}

    def spelled(self, name: str) -> str:
        """Return how an option is typed, without its dashes: as short as it is clear."""
        last = name.rpartition(".")[2]
        others = [n for n in self.options if n != name and n.rpartition(".")[2] == last]
        return (name if others else last).replace("_", "-")

    def read(self, words: Sequence[str], errors: Collector) -> dict[str, str]:
        """Return options as text by their long names.

        Args:
            words: what was typed after the verb and its argument.
            errors: takes down every word that is no option, and every option without a value.
        """
        known = {self.spelled(name): name for name in self.options}
        known |= {name.replace("_", "-"): name for name in self.options}
        values: dict[str, str] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--"):
                errors.found.append(f"unexpected argument {word!r}; an option begins with --")
                continue
            typed, sign, value = word[2:].partition("=")
            typed = typed.replace("_", "-")
            off = typed.startswith("no-") and typed not in known
            name = known.get(typed.removeprefix("no-") if off else typed)
            switch = name is not None and _is_switch(self.options[name])
            if name is None or (off and not switch):
                near = get_close_matches(typed, known, n=1, cutoff=0.4)
                hint = f", nearest --{near[0]}" if near else ""
                errors.found.append(f"unknown option --{typed}{hint}")
                if not sign and rest and not rest[0].startswith("--"):
                    rest.pop(0)
                continue
            former = values.pop(name, "") if name in self.repeated else ""
            if name in values:
                errors.found.append(f"--{typed} is given twice")
            if switch:
                more = _words(self.options[name])  # such as auto in --resume=auto
                if not sign and not off and rest and rest[0] in more:
                    sign, value = "=", rest.pop(0)
                if sign and (off or value not in {*_SWITCHED, *more}):
                    takes = " or ".join([", ".join(["true", *more]), "false"])
                    errors.found.append(f"--{typed} takes {takes}, got {value!r}")
                taken = value if value in more else _SWITCHED.get(value, "true")
                values[name] = taken if sign else "false" if off else "true"
            elif sign:
                values[name] = value
            elif rest and not rest[0].startswith("--"):
                values[name] = rest.pop(0)
            else:
                errors.found.append(f"--{typed} needs a value")
            if former and name in values:
                values[name] = f"{former}\n{values[name]}"
        return values

    def arguments(self) -> int | None:
        """Return how many arguments may come before the options, None for any number."""
        if self.positional is None:
            return 0
        return None if self.positional[0].endswith("...") else 1

    def help(self) -> str:
        """Return the whole help text."""
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        lines = [f"usage: {self.usage}", "", *textwrap.wrap(self.about, width)]
        if self.positional:
            lines += ["", *_entry(*self.positional, width)]
        for heading, group in self.groups.items():
            lines += ["", f"{heading}:"]
            for name, option in group.items():
                word = metavar(option)
                gap = "" if word.startswith("[=") else " "
                typed = f"--{self.spelled(name)}{gap}{word}".rstrip()
                lines += _entry(typed, option.help + _default(option), width)
        if self.examples:
            lines += ["", "examples:", *(f"  {line}" for line in self.examples)]
        return "\n".join(lines)


class Request:
    """What was typed after a verb, and what is wrong with it.

    Args:
        words: all that follows the verb.

    Attributes:
        arguments: the words before the options.
        texts: the options as text by their long names, once they were read.
        errors: what is wrong so far, so that all of it is reported at once.

    Example:
        >>> Request(["runs/a", "runs/b", "--seed", "3"]).arguments
        ['runs/a', 'runs/b']
    """

    command: Command

    def __init__(self, words: Sequence[str]) -> None:
        first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
        self.arguments, self._options = list(words[:first]), list(words[first:])
        self.texts: dict[str, str] = {}
        self.errors = Collector()

    @property
    def name(self) -> str | None:
        """The first argument, None if there is none."""
        return self.arguments[0] if self.arguments else None

    @property
    def overwrite(self) -> bool:
        """Whether what is there may be replaced."""
        return self.texts.get("overwrite") == "true"

    def read(self, command: Command) -> None:
        """Read the options, and take down all that the command does not know.

        Args:
            command: what may be typed.
        """
        self.command = command
        most = command.arguments()
        extra = [] if most is None else self.arguments[most:]
        self.texts = command.read([*extra, *self._options], self.errors)

    def values(self, heading: str) -> dict[str, typing.Any]:
        """Return the values of those options under a heading that were typed.

        Args:
            heading: of a group of the command's options.
        """
        group = self.command.groups[heading]
        typed = [name for name in group if name in self.texts]
        return {n: self.errors.attempt(read, group[n], self.texts[n]) for n in typed}


def metavar(option: Option) -> str:
    """Return the word that stands for an option's value in its help; "" for a switch."""
    if _is_switch(option):
        return "".join(f"[={word}]" for word in _words(option))
    kind = part_of(option.annotation)
    if kind:
        return kind.upper()
    words = []
    for member in _members(option):
        if typing.get_origin(member) is Literal:
            words += [str(a) for a in typing.get_args(member)]
        elif typing.get_origin(member) in (tuple, list, Sequence):
            words.append("A,B,...")
        elif member is not types.NoneType:
            words.append(_METAVARS.get(member, "TEXT"))
    return "|".join(words)


def _is_switch(option: Option) -> bool:
    return bool in _members(option) and {*_members(option)} <= {
        bool,
        types.NoneType,
        *_literals(option),
    }


def _words(option: Option) -> list[str]:
    """Return the words that a switch takes besides true and false."""
    return [str(word) for kind in _literals(option) for word in typing.get_args(kind)]


def _literals(option: Option) -> list[typing.Any]:
    return [kind for kind in _members(option) if typing.get_origin(kind) is Literal]


def _members(option: Option) -> tuple[typing.Any, ...]:
    union = typing.get_origin(option.annotation) in (typing.Union, types.UnionType)
    return typing.get_args(option.annotation) if union else (option.annotation,)


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return " (needed)"
    if option.default in (None, "", False) or isinstance(option.default, tuple):
        return ""
    default = option.default.__name__.lower() if inspect.isclass(option.default) else option.default
    return f" [{default}]" if default is not True else f" [on; --no-{option.name} for off]"


def _entry(head: str, text: str, width: int) -> list[str]:
    body = textwrap.wrap(text, max(30, width - _COLUMN)) or [""]
    first = f"  {head}"
    if len(first) + 2 > _COLUMN:
        return [first, *(" " * _COLUMN + line for line in body)]
    return [f"{first.ljust(_COLUMN)}{body[0]}".rstrip(), *(" " * _COLUMN + b for b in body[1:])]
