"""The registries: the parts of one kind, by the name that each gives itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Part = TypeVar("Part", bound=type)

GROUP = "priory.parts"  # of the entry points that name modules with parts
_REGISTRIES: list[tuple[Any, dict[str, Any]]] = []


def registry(kind: Callable[..., T], names: Mapping[str, Any]) -> dict[str, type[T]]:
    """Return the parts of a kind among a package's names, in the order of their names.

    A part is a class with an attribute `name`, in a file that the package's `__init__` imports; no
    other list names it. Parts from elsewhere join by `register`.

    Args:
        kind: The base class of the parts.
        names: The package's names, its `globals()`.

    Raises:
        ValueError: Two parts have one name.

    Example:
        >>> class Shape: pass
        >>> class Circle(Shape): name = "circle"
        >>> registry(Shape, {"Shape": Shape, "Circle": Circle})
        {'circle': <class 'priory.registry.Circle'>}
    """
    found: dict[str, type[T]] = {}
    base: Any = kind  # which may be abstract
    for part in names.values():
        if isinstance(part, type) and issubclass(part, base) and "name" in vars(part):
            _add(part, found)
    found = dict(sorted(found.items()))
    _REGISTRIES.append((base, found))
    return found


def register(part: Part) -> Part:
    """Add a part of one's own to the registry of its kind; a decorator of its class.

    Args:
        part: A class of pairs, priors, posteriors or likelihoods, with an attribute `name`.

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
    """
    for base, found in _REGISTRIES:
        if issubclass(part, base):
            if "name" not in vars(part):
                raise TypeError(f"{part.__name__} needs a name: set the class attribute `name`")
            _add(part, found)
            return part
    kinds = ", ".join(base.__name__ for base, _ in _REGISTRIES)
    raise TypeError(f"{part.__name__} is of no kind that has a registry; the kinds are {kinds}")


def find_installed() -> None:
    """Import the modules that other packages name as entry points of the group `priory.parts`."""
    for point in importlib.metadata.entry_points(group=GROUP):
        point.load()


def registered(path: str) -> Any:
    """Return the registered part of an import path, None if there is none.

    Args:
        path: Module and class, such as `my_priors.Laplace`.
    """
    for _, found in _REGISTRIES:
        for part in found.values():
            if f"{part.__module__}.{part.__qualname__}" == path:
                return part
    return None


def _add(part: type, found: dict[str, Any]) -> None:
    name = vars(part)["name"]
    if found.setdefault(name, part) is not part:
        raise ValueError(
            f"{part.__name__} and {found[name].__name__} are both called {name!r}; give one "
            "another name"
        )
