"""A page for each recipe, made of its row, its pair's source, and the words of families.yaml."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from benchmarks import readme
from docstrings import escaped, keep, plain

from priory.inference.objectives import OBJECTIVES
from priory.recipes import RECIPES, Recipe
from priory.recipes import table as rows

WORDS = Path(__file__).parents[1] / "families.yaml"
HEADINGS = (
    "Idea",
    "Generative process",
    "Guide",
    "Objective",
    "What it is for",
    "What goes wrong",
    "Exact check",
    "Obtained beside published",
    "Run it",
)
ASIDES = {  # the guide's page on a group of recipes, if there is one
    "energies": "energies",
    "flows": "flows",
    "diffusion": "chains",
    "denoising": "chains",
    "clusters": "clusters",
    "few_labels": "clusters",
    "categorical": "clusters",
    "gaussian_processes": "gaussian-processes",
    "gans": "training",
}


def words() -> dict[str, dict[str, Any]]:
    """Return what families.yaml says of each recipe."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return found


def groups() -> dict[str, Any]:
    """Return the modules of rows by their names, in the table's order."""
    return {m.__name__.rpartition(".")[2]: m for m in rows._FAMILIES}


def page(recipe: Recipe, said: dict[str, Any], tables: dict[str, str]) -> str:
    """Return a recipe's page as reStructuredText.

    Args:
        recipe: The row.
        said: Its words.
        tables: The benchmarks' tables as Markdown, by their marks.
    """
    pair = recipe.family
    reference = f":py:class:`~priory.models.{pair.__name__}`"
    sections = {
        "Idea": [escaped(said["idea"]), "", *_paper(recipe), *_formula(pair)],
        "Generative process": [f"The pair is {reference}.", "", *_source(pair, "model")],
        "Guide": _source(pair, "guide"),
        "Objective": list(_objective(recipe)),
        "What it is for": [escaped(said["for"])],
        "What goes wrong": [escaped(said["wrong"])],
        "Exact check": [f"- {_test(name)}" for name in said["check"]],
        "Obtained beside published": list(_measured(recipe, said.get("measured", {}), tables)),
        "Run it": _commands(recipe),
    }
    lines = [recipe.name, "=" * len(recipe.name), ""]
    for heading in HEADINGS:
        lines += [heading, "-" * len(heading), "", *sections[heading], ""]
    return "\n".join(lines)


def _paper(recipe: Recipe) -> list[str]:
    """Return the row's reference, unless the pair's docstring has it."""
    title = re.split(r"\d{4}, ", recipe.paper)[-1].split(";")[0]
    there = " ".join((inspect.getdoc(recipe.family) or "").split())
    return [] if title in there else [f"{escaped(recipe.paper)}.", ""]


def _formula(pair: type[Any]) -> list[str]:
    """Return the pair's docstring up to its arguments, without the sentence in front."""
    text = re.split(r"\n(?:Args|Raises|Example):", inspect.getdoc(pair) or "")[0]
    return plain(text.strip().splitlines())


def _source(pair: type[Any], program: str) -> list[str]:
    owner = next(cls for cls in pair.__mro__ if program in vars(cls))
    code = textwrap.dedent(inspect.getsource(vars(owner)[program])).rstrip()
    where = owner.__module__.replace(".", "/")
    return [
        ".. code-block:: python",
        f"   :caption: {owner.__name__}.{program}, src/{where}.py",
        "",
        *textwrap.indent(code, "   ").splitlines(),
    ]


def _objective(recipe: Recipe) -> Iterator[str]:
    yield from ("::", "", f"   {recipe.loss}", "")
    kinds = {type(part).__name__: part for part in _parts(recipe.objective())}
    for name, part in kinds.items():
        first = (inspect.getdoc(type(part)) or "").split("\n\n")[0].replace("\n", " ")
        yield f"- :py:class:`~priory.inference.objectives.{name}`: {escaped(first)}"
    yield ""
    for stage in recipe.stages:
        names = ", ".join(type(part).__name__ for part in _parts(stage.objective))
        yield f"Before it comes the stage ``{stage.name}``, trained by {names}."
        yield ""
    options = {**recipe.options, **recipe.training, "data": recipe.data}
    yield "What the row sets, where it differs from the defaults:"
    yield ""
    yield from _table(
        [("option", "value")] + [(f"``{k}``", f"``{v}``") for k, v in options.items()]
    )


def _parts(objective: Any) -> list[Any]:
    """Return the named objectives that a sum has, of those with a page."""
    terms = objective.terms() if hasattr(objective, "terms") else [objective]
    found = []
    for term in terms:
        part = getattr(term, "objective", None) if type(term).__name__ == "Scaled" else term
        found += [part] if type(part) in OBJECTIVES.values() else _parts(part) if part else []
    return found


def _test(name: str) -> str:
    file, _, test = name.partition(".")
    return f"``tests/test_{file}.py``: ``test_{test}``"


def _measured(recipe: Recipe, kept: dict[str, list[str]], tables: dict[str, str]) -> Iterator[str]:
    """Yield the rows of the benchmarks' tables that are of a recipe."""
    if not kept:
        yield "No figure of a paper has been set beside this recipe yet."
        yield ""
    for mark, firsts in kept.items():
        found = matching(tables[mark], firsts)
        if found:
            yield from _table([[_cell(c) for c in row] for row in found])
            yield ""
    if kept:
        yield "What a column holds and how it was measured: :doc:`/results`."
        yield ""
    cost = matching(tables["zoo"], [recipe.name])
    if len(cost) > 1:
        yield "What a step costs (``python -m benchmarks.zoo``):"
        yield ""
        yield from _table([[_cell(c) for c in row] for row in cost])


def matching(markdown: str, firsts: list[str]) -> list[list[str]]:
    """Return the heading and the rows of a table whose first cells are given.

    Args:
        markdown: Tables, each below a heading row.
        firsts: The first cell, or cells with bars between; a star at the end stands for any more.
    """
    header, found = None, []
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    for line in lines:
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        body = " | ".join(cells)
        if header is None:
            header = cells
        elif any(_fits(body, cells, first) for first in firsts) and len(cells) == len(header):
            found.append(cells)
    return [header, *found] if header and found else []


def _fits(body: str, cells: list[str], first: str) -> bool:
    if set(body) <= {"-", "|", " "}:
        return False
    if first.endswith("*"):
        return body.startswith(first[:-1])
    count = first.count(" | ") + 1
    return " | ".join(cells[:count]) == first


def _cell(text: str) -> str:
    """Return a cell of Markdown as one of reStructuredText."""
    if text in ("", "-"):
        return "\\ " if not text else "\\-"
    text = re.sub(r"`([^`]+)`", r"``\1``", text.replace("\\|", "|"))
    return escaped(re.sub(r"\*([^*]+)\*", r"\1", text))


def _table(rows: list[Any]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return lines


def _commands(recipe: Recipe) -> list[str]:
    """Return how a recipe is run from the command line and from Python."""
    run = f"runs/{recipe.name}"
    return [
        ".. code-block:: shell",
        "",
        f"   priory fit {recipe.name} --data {recipe.data} --out {run}",
        f"   priory evaluate {run}",
        "",
        ".. code-block:: python",
        "",
        "   from priory import evaluate",
        "   from priory.recipes import RECIPES",
        "",
        f'   run = RECIPES["{recipe.name}"].fit()',
        "   print(evaluate(run))",
    ]


def pages() -> dict[str, str]:
    """Return all pages by their recipes' names."""
    tables, said = readme.tables(), words()
    if missing := [name for name in RECIPES if name not in said]:
        raise ValueError(f"docs/families.yaml has no words for {', '.join(missing)}")
    return {name: page(recipe, said[name], tables) for name, recipe in RECIPES.items()}


def index() -> str:
    """Return the contents: a section for each group of recipes."""
    said = words()
    lines = [
        "Families",
        "========",
        "",
        "A page for each published method: a pair, a prior, an objective.",
        "",
    ]
    for name, module in groups().items():
        sentence = (module.__doc__ or name).split("\n")[0]
        title = re.split(r"[:,.]", sentence)[0]
        lines += [title, "-" * len(title), "", escaped(sentence), ""]
        if name in ASIDES:
            lines += [f"At length: :doc:`/{ASIDES[name]}`.", ""]
        for row in module.ROWS:
            lines += [f"- :doc:`{row.name}`: {escaped(said[row.name]['idea'])}"]
        lines += ["", ".. toctree::", "   :hidden:", f"   :caption: {title}", ""]
        lines += [*(f"   {row.name}" for row in module.ROWS), ""]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write the pages and their contents into a folder."""
    folder.mkdir(exist_ok=True)
    for name, text in {**pages(), "index": index()}.items():
        keep(folder / f"{name}.rst", text)
