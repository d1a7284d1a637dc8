"""Variational autoencoders: a prior, and a bound on the likelihood."""

from typing import Any

from priory.inference import ELBO, MAP, TreeOfCodes
from priory.models import VAE, MaskedVAE
from priory.recipes.recipe import Recipe


def _vae(name: str, paper: str, loss: str = "elbo", prior: str = "normal", **more: Any) -> Recipe:
    """Return a row for a VAE, with nets and training sized for the digits."""
    options = {"prior": prior, "encoder": "mlp:128", "decoder": "mlp:128", **more}
    training = {"steps": 1000, "lr": 2e-3, "schedule": "cosine"}
    return Recipe(name, paper, VAE, loss, options, training)


ROWS = (
    _vae("vae", "Kingma and Welling, 2014, Auto-encoding variational Bayes"),
    _vae(
        "beta-vae", "Higgins et al., 2017, beta-VAE: learning basic visual concepts", "elbo:beta=2"
    ),
    _vae("iwae", "Burda et al., 2016, Importance weighted autoencoders", "iwae:5"),
    Recipe(
        "miwae",
        "Mattei and Frellsen, 2019, MIWAE: deep generative modelling and imputation of incomplete "
        "data sets",
        MaskedVAE,
        "iwae:20",
        {"encoder": "mlp:128", "decoder": "mlp:128"},
        {"steps": 1000, "lr": 2e-3, "schedule": "cosine"},
    ),
    _vae(
        "gm-vae",
        "Jiang et al., 2017, Variational deep embedding; the component is summed out",
        prior="mixture:10",
    ),
    Recipe(
        "ncrp-vae",
        "Goyal et al., 2017, Nonparametric variational auto-encoders for hierarchical "
        "representation learning; gradient steps see the tree as a point, its path summed out",
        VAE,
        "elbo + map",
        {"prior": "nested-crp:3:3", "encoder": "mlp:128", "decoder": "mlp:128", "latent": 2},
        {"steps": 500, "lr": 2e-3, "schedule": "cosine"},
        data="tree",
        stages=(
            TreeOfCodes(
                name="codes",
                objective=ELBO(),
                frozen=("prior",),  # all nodes near the root: a normal
                steps=1000,
                lr=5e-3,
                schedule="cosine",
            ),
            TreeOfCodes(name="tree", objective=ELBO() + MAP(), steps=500, lr=2e-3),
        ),
    ),
    _vae("vamp-vae", "Tomczak and Welling, 2018, VAE with a VampPrior", prior="vamp:500"),
    _vae(
        "exemplar-vae",
        "Norouzi, Fleet and Norouzi, 2020, Exemplar VAE: linking generative models, nearest "
        "neighbor retrieval, and data augmentation",
        prior="exemplar:500",
    ),
    _vae(
        "sb-vae",
        "Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders",
        prior="stick-breaking:5",
    ),
    _vae(
        "concrete-vae",
        "Maddison, Mnih and Teh, 2017, The Concrete distribution: a continuous relaxation of "
        "discrete random variables",
        prior="concrete",
        latent=32,
    ),
    _vae(
        "geco-vae",
        "Rezende and Viola, 2018, Taming VAEs",
        "kl + constraint:reconstruction:at_most=15",
    ),
    _vae(
        "lag-vae",
        "Zhao, Song and Ermon, 2018, The information autoencoding family: a Lagrangian perspective "
        "on latent variable generative models",
        "reconstruction + constraint:elbo:at_most=20 + constraint:(match:mmd):at_most=0.05",
    ),
)
