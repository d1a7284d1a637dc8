"""A recipe by its name, or one for a pair in a file of the user's own."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from priory.data.files import find
from priory.lookup import named
from priory.models import PAIRS
from priory.recipes.recipe import Recipe
from priory.recipes.table import RECIPES
from priory.registry import find_installed
from priory.signatures import summary


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name, or one for a pair by its own, or of the user's own.

    Args:
        name: a name in `RECIPES`, that of a registered pair, or `path/to/file.py:Class`. The file
            is run.

    Raises:
        ValueError: if the name is unknown, or the file has no such class.
    """
    if (found := in_file(name)) is not None:
        family = pair_class(found[1], found[2])
        return Recipe(family.__name__, summary(family), family)
    if name not in (*RECIPES, *PAIRS):
        find_installed()  # a help has not looked for what other packages bring
    if name in PAIRS and name not in RECIPES:
        return Recipe(name, summary(PAIRS[name]), PAIRS[name])
    return named("recipe", name, RECIPES)


def in_file(name: str) -> re.Match[str] | None:
    """Return the file and the class of a name that says `path/to/file.py:Class`, None of others.

    Args:
        name: as in `find_recipe`.
    """
    return re.fullmatch(r"(.+\.py)(?::(\w+))?", name)


def pair_class(path: str, name: str | None = None) -> type[Any]:
    """Return a pair's class from a file of the user's own, which is run.

    Args:
        path: the file.
        name: the class; the file's only pair if it is None.

    Raises:
        ValueError: if there is no such file or class, or the class is no pair.
    """
    file = find(path)
    if not file.is_file():
        raise ValueError(f"no file {path}")
    module = _module(file)
    pairs = {
        n: v
        for n, v in vars(module).items()
        if isinstance(v, type) and v.__module__ == module.__name__ and _is_pair(v)
    }
    if not pairs:
        raise ValueError(f"{path} has no pair: a class with the methods model and guide")
    if name is None and len(pairs) > 1:
        raise ValueError(f"{path} has several pairs; say which: {path}:{next(iter(pairs))}")
    return named(f"pair in {path}", name or next(iter(pairs)), pairs)


def object_in(path: str, name: str | None) -> Any:
    """Return an object from a file of the user's own, which is run.

    Args:
        path: the file.
        name: of the object.

    Raises:
        ValueError: if there is no such file or object.
    """
    file = find(path)
    if not file.is_file():
        raise ValueError(f"no file {path}")
    if name is None:
        raise ValueError(f"name what {path} has the rows in: {path}:NAME")
    return named(f"object in {path}", name, vars(_module(file)))


def _module(file: Path) -> ModuleType:
    """Run a file, once in a process, as the module of its name."""
    name = file.stem
    while name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) == str(file):
            return sys.modules[name]
        name += "_"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_pair(found: type) -> bool:
    return all(callable(getattr(found, program, None)) for program in ("model", "guide"))
