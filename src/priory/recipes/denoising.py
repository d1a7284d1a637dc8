"""Chains that generate by denoising: they have samples, and no bound."""

from priory.models import DAE, GSN
from priory.recipes.recipe import Recipe

_TRAINING = {"steps": 2000, "lr": 1e-3, "schedule": "cosine"}
_GENERALISED = (
    "Bengio, Yao, Alain and Vincent, 2013, Generalized denoising auto-encoders as generative models"
)

ROWS = (
    Recipe(
        "dae",
        "Vincent et al., 2008, Extracting and composing robust features with denoising "
        "autoencoders; as a chain: " + _GENERALISED,
        DAE,
        "denoise",
        {"net": "mlp:500"},
        _TRAINING,
    ),
    Recipe("dae-walkback", _GENERALISED, DAE, "denoise:5", {"net": "mlp:500"}, _TRAINING),
    Recipe(
        "gsn",
        "Bengio, Laufer, Alain and Yosinski, 2014, Deep generative stochastic networks trainable "
        "by backprop",
        GSN,
        "denoise:4",
        {},
        _TRAINING,
    ),
)
