"""Autoencoders with Gaussian processes."""

from priory.models import DeepGPVAE
from priory.recipes.recipe import Recipe

ROWS = (
    Recipe(
        "vae-dgp",
        "Dai, Damianou, Gonzalez and Lawrence, 2016, Variational auto-encoded deep Gaussian "
        "processes",
        DeepGPVAE,
        "elbo",
        {"encoder": "mlp:128"},
        {"steps": 1000, "lr": 1e-2, "schedule": "cosine"},
        grey=True,
    ),
)
