"""Variational autoencoders with several layers of latents."""

from typing import Any

from priory.models import HierarchicalVAE, LadderVAE, TwoLevelVAE
from priory.recipes.recipe import Recipe

_BURDA = "Burda et al., 2016, Importance weighted autoencoders; two layers"
_TANH = {"encoder": "mlp:200,200:tanh", "decoder": "mlp:200,200:tanh", "inner": "mlp:100,100:tanh"}
_DIGITS = {"encoder": "mlp:128", "decoder": "mlp:128"}
_TRAINING = {"steps": 1000, "lr": 2e-3, "schedule": "cosine"}


def _row(name: str, paper: str, family: type, loss: str, **options: Any) -> Recipe:
    """Return a row with a training sized for the digits."""
    return Recipe(name, paper, family, loss, options, _TRAINING)


ROWS = (
    _row("two-layer-vae", _BURDA, HierarchicalVAE, "elbo", **_TANH, latents="100,50"),
    _row("two-layer-iwae", _BURDA, HierarchicalVAE, "iwae:5", **_TANH, latents="100,50"),
    _row(
        "hierarchical-vae",
        "Rezende et al., 2014, Stochastic backpropagation and approximate inference in deep "
        "generative models",
        HierarchicalVAE,
        "elbo:beta=(linear:0.01:1:500)",
        **_DIGITS,
        inner="mlp:64:tanh",
        latents="16,8,4",
    ),
    Recipe(
        "ladder-vae",
        "Sonderby et al., 2016, Ladder variational autoencoders",
        LadderVAE,
        "elbo:beta=(linear:0.01:1:500)",
        {
            "encoder": "mlp:128:leaky-relu:batch_norm=true",
            "decoder": "mlp:128:leaky-relu:batch_norm=true",
            "latents": "16,8,4",
            "widths": "128,64,32",
        },
        {**_TRAINING, "clip": 100.0},
    ),
    _row(
        "hierarchical-vamp-vae",
        "Tomczak and Welling, 2018, VAE with a VampPrior; two levels",
        TwoLevelVAE,
        "elbo:beta=(linear:0.01:1:500)",
        **_DIGITS,
        lower_encoder="mlp:128",
        upper="mlp:128",
        prior="vamp:500",
        latents="16,8",
    ),
)
