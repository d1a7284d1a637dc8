"""Autoregressive models of data, alone and with a latent that leaves them something to read."""

from typing import Any

from priory.models import VLAE, Autoregressive
from priory.recipes.recipe import Recipe


def _row(name: str, paper: str, family: type[Any], **options: Any) -> Recipe:
    """Return a row with a training sized for the digits."""
    training = {"steps": 1000, "lr": 2e-3, "schedule": "cosine"}
    return Recipe(name, paper, family, "elbo", options, training)


ROWS = (
    _row(
        "made",
        "Germain, Gregor, Murray and Larochelle, 2015, MADE: masked autoencoder for distribution "
        "estimation",
        Autoregressive,
        decoder="made:500",
    ),
    _row(
        "pixelcnn",
        "van den Oord, Kalchbrenner and Kavukcuoglu, 2016, Pixel recurrent neural networks",
        Autoregressive,
        decoder="pixelcnn",
    ),
    _row(
        "vlae",
        "Chen et al., 2017, Variational lossy autoencoder",
        VLAE,
        prior="flow:kind=maf",
        encoder="mlp:128",
        decoder="pixelcnn:window=2:blocks=1",
    ),
)
