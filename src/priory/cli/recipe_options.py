"""Options of a recipe: its pair's, and those of its training."""

from __future__ import annotations

from dataclasses import replace

from priory.recipes import RECIPES, Recipe
from priory.signatures import Option, options_of

KEPT = ("folder", "checkpoint_every", "keep", "resume", "inexact", "overwrite")
"""Options of `fit` that say where a run is kept."""


def pair_options(recipe: Recipe) -> dict[str, Option]:
    """Return the options of a recipe's pair, with the recipe's defaults."""
    return {
        f"pair.{n}": replace(o, default=recipe.options.get(n, o.default))
        for n, o in options_of(recipe.family).items()
    }


def trains(name: str) -> bool:
    """Return whether an option, by its long name, is for a recipe."""
    return name.startswith("pair.") or name == "objective" or name in RECIPES["vae"].trainable()
