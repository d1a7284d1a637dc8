"""The zoo: one row per published method; a family's rows lie in the file of its name."""

from priory.recipes import autoencoders, categorical, conditional, gans, joint, vaes
from priory.recipes.recipe import Recipe

_FAMILIES = (vaes, autoencoders, categorical, conditional, gans, joint)

RECIPES: dict[str, Recipe] = {row.name: row for family in _FAMILIES for row in family.ROWS}
