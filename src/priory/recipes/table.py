"""The zoo: one row per published method; a family's rows lie in the file of its name."""

from priory.recipes import (
    autoencoders,
    autoregressive,
    belief,
    categorical,
    classical,
    classifiers,
    clusters,
    conditional,
    denoising,
    diffusion,
    energies,
    few_labels,
    flows,
    gans,
    gaussian_processes,
    joint,
    layers,
    vaes,
)
from priory.recipes.recipe import Recipe
from priory.registry import registry

_FAMILIES = (
    vaes,
    layers,
    autoencoders,
    autoregressive,
    belief,
    categorical,
    classical,
    classifiers,
    clusters,
    conditional,
    denoising,
    energies,
    diffusion,
    few_labels,
    flows,
    gans,
    gaussian_processes,
    joint,
)

RECIPES: dict[str, Recipe] = registry(Recipe, (row for family in _FAMILIES for row in family.ROWS))
