"""Classifiers: labels that are explained through a latent."""

from priory.models import VIB
from priory.recipes.recipe import Recipe

ROWS = (
    Recipe(
        "vib",
        "Alemi et al., 2017, Deep variational information bottleneck",
        VIB,
        "elbo:beta=1e-3",
        {"encoder": "mlp:128", "latent": 16},
        {"steps": 1000, "lr": 2e-3, "schedule": "cosine"},
        grey=True,
    ),
)
