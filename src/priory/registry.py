"""The registries: the parts of one kind, by the name that each gives itself."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def registry(kind: Callable[..., T], names: Mapping[str, Any]) -> dict[str, type[T]]:
    """Return the parts of a kind among a package's names, in the order of their names.

    A part is a class with an attribute `name` of its own, in a file of its own, which the package's
    `__init__` imports; no other list names it.

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
            name: str = vars(part)["name"]
            if found.setdefault(name, part) is not part:
                raise ValueError(f"{part.__name__} and {found[name].__name__} are both {name!r}")
    return dict(sorted(found.items()))
