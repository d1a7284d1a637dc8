"""Variational autoencoders with clusters, whose prior is a mixture with its component explicit."""

from priory.inference import MixtureOfCodes, Reconstruction
from priory.models import DLGMM, GMVAE, VAE, HierarchicalGMVAE
from priory.recipes.recipe import Recipe

# At their whole price the latents are spent on fewer clusters, before these are found.
_WARMED = "elbo:beta=(linear:0.01:1:1000)"
_NETS = {"encoder": "mlp:128", "classifier": "mlp:128", "decoder": "mlp:128"}
_TRAINING = {"steps": 2000, "lr": 2e-3, "schedule": "cosine"}

ROWS = (
    Recipe(
        "gmvae",
        "Shu, 2016, Gaussian mixture VAE: lessons in variational inference, generative models, and "
        "deep nets",
        GMVAE,
        f"{_WARMED}:gradient=enumerate",
        {**_NETS, "latent": 8},
        _TRAINING,
    ),
    Recipe(
        "gmvae-wzy",
        "Dilokthanakul et al., 2016, Deep unsupervised clustering with Gaussian mixture "
        "variational autoencoders",
        HierarchicalGMVAE,
        _WARMED,
        {
            "encoder": "mlp:128",
            "upper_encoder": "mlp:128",
            "upper": "mlp:128:tanh",
            "decoder": "mlp:128",
            "latents": (8, 4),
        },
        _TRAINING,
    ),
    Recipe(
        "dlgmm",
        "Nalisnick, Hertel and Smyth, 2016, Approximate inference for deep latent Gaussian "
        "mixtures",
        DLGMM,
        "elbo",
        {"encoder": "mlp:128", "weigher": "mlp:128", "decoder": "mlp:128", "latent": 8},
        _TRAINING,
    ),
    Recipe(
        "vade",
        "Jiang et al., 2017, Variational deep embedding: an unsupervised and generative approach "
        "to clustering; the component is summed out",
        VAE,
        "elbo",
        {"prior": "mixture:10", "encoder": "mlp:128", "decoder": "mlp:128", "latent": 8},
        {"steps": 2000, "lr": 1e-3, "schedule": "cosine"},
        stages=(
            MixtureOfCodes(
                name="autoencoder",
                objective=Reconstruction(point=True),
                frozen=("prior",),
                metrics=("clustering_hungarian", "clustering_majority", "clustering_confident"),
                steps=1000,
                lr=2e-3,
            ),
        ),
    ),
)
