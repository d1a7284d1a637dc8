"""The reference: a page for each public package, of every name in its `__all__`."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from docstrings import first_sentence, keep, plain

PACKAGES = {
    "priory": "The verbs",
    "priory.models": "Models",
    "priory.priors": "Priors",
    "priory.posteriors": "Posteriors",
    "priory.likelihoods": "Likelihoods",
    "priory.nets": "Nets",
    "priory.inference": "Inference",
    "priory.inference.objectives": "Objectives",
    "priory.inference.loggers": "Loggers",
    "priory.divergences": "Divergences",
    "priory.data": "Data",
    "priory.evaluation": "Evaluation",
    "priory.evaluation.insight": "Insight",
    "priory.evaluation.interpolation": "Ways through the latent space",
    "priory.comparison": "Comparison",
    "priory.onnx": "Export to ONNX",
    "priory.sklearn": "In scikit-learn",
    "priory.recipes": "Recipes",
    "priory.parsing": "Parts as text",
    "priory.registry": "Registry",
}


def public() -> dict[str, list[str]]:
    """Return the public names of each package; a name that several have is the last's alone.

    The registry has no `__all__`: its functions are public.
    """
    found: dict[str, list[str]] = {}
    homes: dict[int, str] = {}
    for package in reversed(PACKAGES):  # parts of a package come after it
        module = import_module(package)
        names = getattr(module, "__all__", None) or _functions(module)
        mine = {name: getattr(module, name) for name in names}
        kept = [n for n, v in mine.items() if package == "priory" or id(v) not in homes]
        homes |= {id(mine[name]): package for name in kept}
        found[package] = sorted(kept, key=str.lower)
    return {package: found[package] for package in PACKAGES}


def _functions(module: Any) -> list[str]:
    own = vars(module).items()
    return [
        n
        for n, v in own
        if inspect.isfunction(v) and v.__module__ == module.__name__ and n[0] != "_"
    ]


def directive(value: Any) -> str:
    """Return the directive that documents a value."""
    if inspect.isclass(value):
        return "autoclass"
    return "autofunction" if inspect.isroutine(value) else "data"


def summary(value: Any) -> str:
    """Return a sentence on a value: its docstring's first, or a table's names."""
    if directive(value) != "data":
        return first_sentence(inspect.getdoc(value))
    if isinstance(value, Mapping):
        return "The names: " + ", ".join(f"``{name}``" for name in value) + "."
    return f"A constant, of type ``{type(value).__name__}``."


def page(package: str, names: list[str]) -> str:
    """Return the page of a package as reStructuredText."""
    module = import_module(package)
    title = PACKAGES[package]
    lines = [title, "=" * len(title), "", f".. module:: {package}", ""]
    lines += plain((inspect.getdoc(module) or "").splitlines())
    lines += ["", ".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for name in names:
        lines += [f"   * - :py:obj:`~{package}.{name}`"]
        lines += [f"     - {summary(getattr(module, name))}"]
    for name in names:
        lines += ["", *_entry(package, name, getattr(module, name))]
    return "\n".join([*lines, ""])


def _entry(package: str, name: str, value: Any) -> list[str]:
    kind = directive(value)
    if kind == "data":
        return [f".. py:data:: {name}", "", f"   {summary(value)}"]
    lines = [f".. {kind}:: {package}.{name}"]
    return [*lines, "   :members:", "   :show-inheritance:"] if kind == "autoclass" else lines


def write(folder: Path) -> None:
    """Write the pages, and their contents, into a folder."""
    folder.mkdir(exist_ok=True)
    title = "Reference"
    lines = [
        title,
        "=" * len(title),
        "",
        "Every public name, by the package that it is imported from.",
        "",
    ]
    lines += [".. toctree::", "   :maxdepth: 1", ""]
    for package, names in public().items():
        keep(folder / f"{package}.rst", page(package, names))
        lines.append(f"   {package}")
    keep(folder / "index.rst", "\n".join([*lines, ""]))
