"""Variational autoencoders with clusters, whose prior is a mixture with its component explicit."""

from priory.models import GMVAE
from priory.recipes.recipe import Recipe

_NETS = {"encoder": "mlp:128", "classifier": "mlp:128", "decoder": "mlp:128"}
_TRAINING = {"steps": 2000, "lr": 2e-3, "schedule": "cosine"}

ROWS = (
    Recipe(
        "gmvae",
        "Shu, 2016, Gaussian mixture VAE: lessons in variational inference, generative models, and "
        "deep nets",
        GMVAE,
        # Warmed up: at its whole price the latent is spent on fewer clusters before they are found.
        "elbo:beta=(linear:0.01:1:1000):gradient=enumerate",
        {**_NETS, "latent": 8},
        _TRAINING,
    ),
)
