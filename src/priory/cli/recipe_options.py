"""Options of a recipe: its pair's, and those of its training."""

from __future__ import annotations

from dataclasses import replace

from priory.recipes import RECIPES, Recipe
from priory.signatures import Option, options_of

_KEPT = ("folder", "checkpoint_every", "keep", "resume", "inexact", "overwrite")
"""Options of `fit` that say where a run is kept."""


def pair_options(recipe: Recipe) -> dict[str, Option]:
    """Return the options of a recipe's pair, with the recipe's defaults."""
    return {
        f"pair.{n}": replace(o, default=recipe.options.get(n, o.default))
        for n, o in options_of(recipe.family).items()
    }


def training_options(recipe: Recipe) -> dict[str, Option]:
    """Return the options of `fit` but those of the run's folder, with the recipe's defaults."""
    return {
        n: replace(o, default=recipe.training.get(n, o.default))
        for n, o in recipe.trainable().items()
        if n not in _KEPT
    }


def is_of_recipe(name: str) -> bool:
    """Return whether an option, by its long name, is one that a recipe takes."""
    if any(name in recipe.staged() for recipe in RECIPES.values() if recipe.stages):
        return True
    return name.startswith("pair.") or name == "objective" or name in RECIPES["vae"].trainable()
