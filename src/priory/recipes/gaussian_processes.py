"""Autoencoders with Gaussian processes."""

from priory.models import GPVAE, DeepGPVAE
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
    Recipe(
        "gp-vae",
        "Casale, Dalca, Saglietti, Listgarten and Fusi, 2018, Gaussian process prior variational "
        "autoencoders",
        GPVAE,
        "elbo",
        {"encoder": "mlp:32", "decoder": "mlp:32", "latent": 1},
        {"steps": 2000, "lr": 2e-2, "schedule": "cosine"},
        data="sunspot-years",
    ),
)
