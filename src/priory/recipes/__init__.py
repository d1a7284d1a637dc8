"""The zoo: every published method as a row, and pairs of the user's own."""

from priory.recipes.find import find_recipe, in_file, pair_class
from priory.recipes.recipe import Recipe
from priory.recipes.table import RECIPES

__all__ = ["RECIPES", "Recipe", "find_recipe", "in_file", "pair_class"]
