"""The verb that searches for the options of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from priory.cli.data_source import Source, data_options
from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE
from priory.cli.recipe_options import is_of_recipe, pair_options, training_options
from priory.comparison import read_search, tune
from priory.recipes import RECIPES, Recipe, find_recipe
from priory.signatures import Option, options_of

_APART = ("recipe", "data", "search", "out", "overwrite", "progress")
_SEARCH = Option(
    "search",
    str,
    None,
    "an option and its values: lr=1e-4..1e-2:log, latent=2,8,32, prior=normal,vamp:50; once for "
    "each option that is searched",
)
_NAME = ("NAME", "a recipe (see priory list recipes), or path/to/file.py:Class")


def command(request: Request) -> Command:
    """Return what may be typed: options of the search, and of the recipe that is named."""
    name, errors = request.name, request.errors
    recipe = RECIPES["vae"] if name is None else errors.attempt(find_recipe, name)
    recipe = recipe or RECIPES["vae"]
    training = training_options(recipe)
    searching = {n: o for n, o in options_of(tune).items() if n not in _APART}
    return Command(
        f"priory tune {name or 'NAME'} --search OPTION=VALUES [options]",
        f"{VERBS['tune']}. Trials are judged by their validation bound, or by --best METRIC; the "
        "best one is trained again and judged on the test rows.",
        {
            "search": {"search": _SEARCH, **searching},
            f"the pair, {recipe.family.__name__}": pair_options(recipe),
            "objective": {"objective": Option("objective", str, recipe.loss, "what to train by")},
            "training": {n: o for n, o in training.items() if n not in ("seed", "progress")},
            **({"earlier stages": recipe.staged()} if recipe.stages else {}),
            "data": data_options(recipe.data, recipe.rendering(recipe.data)),
            "output": {
                "out": Option("out", Path, "tuned", "folder of the search and its best run"),
                "overwrite": OVERWRITE,
            },
        },
        lambda request: act(recipe, request),
        _NAME,
        (
            "priory tune vae --data digits --search lr=1e-4..1e-2:log --search latent=2,8,32",
            "priory tune vae --search prior=normal,vamp:50 --trials 30 --epochs 20 --out tuned",
        ),
        ("search",),
    )


def act(recipe: Recipe, request: Request) -> None:
    """Search, print the trials and the best one's report, and say where the page is.

    Args:
        recipe: What to tune.
        request: The options.
    """
    texts, errors = request.texts, request.errors
    if request.name is None:
        errors.found.insert(0, "tune needs a name first: priory tune vae --search OPTION=VALUES")
    name = texts.get("data", recipe.data)
    source = Source(name, texts, errors, recipe.rendering(name))
    options = request.values("search")
    options.pop("search", None)
    spaces = errors.attempt(read_search, texts.get("search", "").split("\n"))
    out = Path(texts.get("out") or "tuned")
    apart = {*options_of(tune)} - {"seed"}
    trained = {k: v for k, v in texts.items() if is_of_recipe(k) and k not in (*apart, "seed")}
    errors.check()
    asked: dict[str, Any] = {**options, "search": spaces, "out": out, **trained}
    data = source.open()
    print(data, flush=True)
    own = request.name or recipe.name
    found = tune(own, data, overwrite=request.overwrite, **asked)
    print(found)
    print(found.report)
    print(f"wrote {out / 'index.html'}; the best run: {out / 'best'}")
