"""Names: one look-up for every part that is chosen by name, hints, an error in one line."""

import difflib
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_LONGEST = 100  # letters of a wrong name that are shown


def named(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Look up a part by its name, and suggest the nearest one when there is none.

    Args:
        kind: What the table holds, in the singular, for the message.
        name: The name asked for.
        table: The parts by name.

    Raises:
        ValueError: The table has no such name.

    Example:
        >>> named("number", "one", {"one": 1, "two": 2})
        1
    """
    if isinstance(name, str) and name in table:
        return table[name]
    given = str(name)[:_LONGEST]
    near = difflib.get_close_matches(given, list(table), n=1, cutoff=0.4)
    nearest = f", nearest {near[0]!r}" if near else ""
    names = ", ".join(sorted(table)) or "none"
    raise ValueError(f"unknown {kind} {given!r}{nearest}; the names are {names}")


def lookup(kind: str, value: Any, table: Mapping[str, Callable[[], T]]) -> T:
    """Return a part: a name's, made by its defaults, or what was given.

    Args:
        kind: What the table holds, in the singular, for the message.
        value: A name, or the part itself.
        table: What makes the parts, by name.

    Raises:
        ValueError: The table has no such name, or arguments follow it.

    Example:
        >>> lookup("collection", "list", {"list": list}), lookup("collection", [1], {})
        ([], [1])
    """
    if not isinstance(value, str):
        given: T = value
        return given
    name, colon, _ = value.partition(":")
    if colon and name in table:
        part = getattr(table[name], "__name__", name)
        raise ValueError(
            f"{kind} {value!r}: a name alone is read here; give the {kind} itself, {part}(...) "
            "with its arguments (recipes and the command line read such texts)"
        )
    return named(kind, value, table)()


def suggestion(name: object, names: Iterable[str], form: str = "; did you mean {!r}?") -> str:
    """Return a hint at the name nearest to one that is not there, "" if none is near.

    Args:
        name: The name asked for.
        names: The names that there are.
        form: How the hint is put.

    Example:
        >>> suggestion("vmap", ["vamp", "normal"])
        "; did you mean 'vamp'?"
    """
    close = difflib.get_close_matches(str(name), list(names), n=1)
    return form.format(close[0]) if close else ""


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or its class's name if it says nothing.

    Example:
        >>> first_line(ValueError("no room\nat all")), first_line(KeyError())
        ('no room', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def positive(name: str, value: object) -> int:
    """Return a positive integer, NumPy's as Python's own.

    Args:
        name: The argument's name, for the message.
        value: What was given.

    Raises:
        ValueError: It is no positive integer; a bool and 2.0 are none.

    Example:
        >>> positive("latent", 16)
        16
    """
    return at_least(1, name, value, "a positive integer")


def at_least(least: int, name: str, value: object, words: str = "") -> int:
    """Return an integer that is not below a least one, NumPy's as Python's own.

    Args:
        least: The least one.
        name: The argument's name, for the message.
        value: What was given.
        words: What it must be, for the message.

    Raises:
        ValueError: It is no such integer; a bool and 2.0 are none.

    Example:
        >>> at_least(2, "codes", 10)
        10
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:  # type: ignore[call-overload]
        wanted = words or f"an integer of {least} or more"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return int(value)  # type: ignore[call-overload]
