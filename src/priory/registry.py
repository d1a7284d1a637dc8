"""The registries: the parts of one kind, by name, each kind's in one table.

A class of parts and a row of a table have an attribute `name`; a function is called by its own
name, with hyphens. The table of a kind stands in the kind's folder and is remembered here, so that
`register` finds it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")

GROUP = "priory.parts"  # of the entry points that name modules with parts
_REGISTRIES: list[tuple[Any, dict[str, Any]]] = []


def registry(kind: Any, parts: Mapping[str, Any] | Iterable[Any]) -> dict[str, Any]:
    """Return the parts of a kind by name, and remember the table, which `register` adds to.

    Args:
        kind: The base class of the parts, or the type of functions.
        parts: The names of a package, its `globals()`: those that are of the kind, classes or
            instances, and have a name of their own, in its order. Or the parts themselves.

    Raises:
        ValueError: Two parts have one name.

    Example:
        >>> class Shape: pass
        >>> class Circle(Shape): name = "circle"
        >>> registry(Shape, {"Shape": Shape, "Circle": Circle})
        {'circle': <class 'priory.registry.Circle'>}
    """
    if isinstance(parts, Mapping):
        own = [p for p in parts.values() if _is(p, kind) and "name" in vars(p)]
        parts = sorted(own, key=_name)
    found: dict[str, Any] = {}
    for part in parts:
        _add(part, found)
    _REGISTRIES.append((kind, found))
    return found


def register(part: Any) -> Any:
    """Add a part of one's own to the registry of its kind; a decorator of a class.

    Args:
        part: A class of pairs, priors, posteriors, likelihoods, nets, critics, objectives or
            schedules, or a recipe, game or data set, with an attribute `name`. Functions are of no
            class: `@register(DIVERGENCES)` adds one to a table of functions.

    Returns:
        The part; the decorator, for a table.

    Raises:
        TypeError: It is of no kind that has a registry, or has no name.
        ValueError: Another part has its name.

    Example:
        >>> from priory.priors import PRIORS, Normal
        >>> @register
        ... class Wide(Normal):
        ...     name = "wide"
        >>> PRIORS.pop("wide").__name__
        'Wide'
        >>> from priory.divergences import DIVERGENCES
        >>> @register(DIVERGENCES)
        ... def mean_gap(a, b):
        ...     return (a.mean(0) - b.mean(0)).square().sum()
        >>> DIVERGENCES.pop("mean-gap").__name__
        'mean_gap'
    """
    tables = [(kind, found) for kind, found in _REGISTRIES if found is part or _is(part, kind)]
    if not tables:
        kinds = ", ".join(kind.__name__ for kind, _ in _REGISTRIES if isinstance(kind, type))
        raise TypeError(
            f"{_title(part)} is of no kind that has a registry; the kinds are {kinds}; a function "
            "joins the table that is named, as by @register(DIVERGENCES)"
        )
    _, found = tables[0]
    if found is part:
        return lambda function: _add(function, found)
    if "name" not in vars(part):
        raise TypeError(f"{_title(part)} needs a name: set the class attribute `name`")
    return _add(part, found)


def find_installed() -> None:
    """Import the modules that other packages name as entry points of the group `priory.parts`."""
    for point in importlib.metadata.entry_points(group=GROUP):
        point.load()


def registered(path: str) -> Any:
    """Return the registered part of an import path, None if there is none.

    Args:
        path: Module and class or function, such as `my_priors.Laplace`.
    """
    for _, found in _REGISTRIES:
        for part in found.values():
            if f"{part.__module__}.{getattr(part, '__qualname__', '')}" == path:
                return part
    return None


def _is(part: Any, kind: Any) -> bool:
    """Return whether a part is a class of a kind, or an instance; a function is of none."""
    if not isinstance(kind, type):
        return False
    return issubclass(part, kind) if isinstance(part, type) else isinstance(part, kind)


def _name(part: Any) -> str:
    """Return the name that a part gives itself."""
    name: str | None = vars(part).get("name")
    return part.__name__.replace("_", "-") if name is None else name


def _title(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))


def _add(part: Part, found: dict[str, Any]) -> Part:
    name = _name(part)
    if found.setdefault(name, part) is not part:
        raise ValueError(
            f"{_title(part)} and {_title(found[name])} are both called {name!r}; give one "
            "another name"
        )
    return part
