"""Markov chains from noise to the data, and the flows that match fields in their place."""

from typing import Any

from priory.models import (
    BinomialDiffusion,
    ConditionalDiffusion,
    Diffusion,
    FlowMatching,
    Infusion,
    VariationalWalkback,
)
from priory.recipes.recipe import Recipe

_TRAINING = {"steps": 3000, "lr": 2e-3, "schedule": "cosine", "ema": 0.995, "clip": 10.0}


def _row(
    name: str, paper: str, family: type[Any], loss: str, *, grey: bool = True, **options: Any
) -> Recipe:
    """Return a row with a training sized for the digits.

    Args:
        name: by which the row is asked for.
        paper: authors, year, title.
        family: the pair's class.
        loss: the objective.
        grey: whether images keep their grey levels.
        options: of the pair.
    """
    return Recipe(name, paper, family, loss, options, _TRAINING, grey=grey)


ROWS = (
    _row(
        "ddpm",
        "Ho, Jain and Abbeel, 2020, Denoising diffusion probabilistic models",
        Diffusion,
        "steps:simple",
    ),
    _row(
        "ddpm-cosine",
        "Nichol and Dhariwal, 2021, Improved denoising diffusion probabilistic models",
        Diffusion,
        "steps:hybrid",
        noise="cosine",
        variance="learned",
    ),
    _row(
        "ddpm-guided",
        "Ho and Salimans, 2022, Classifier-free diffusion guidance",
        ConditionalDiffusion,
        "steps:simple",
        guidance=1.0,
    ),
    _row(
        "diffusion-2015",
        "Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, 2015, Deep unsupervised learning "
        "using nonequilibrium thermodynamics",
        Diffusion,
        "steps",
        noise="harmonic",
        target="v",
        variance="learned",
    ),
    _row(
        "binomial-diffusion",
        "Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, 2015, Deep unsupervised learning "
        "using nonequilibrium thermodynamics",
        BinomialDiffusion,
        "steps",
        grey=False,
    ),
    _row(
        "flow-matching",
        "Lipman, Chen, Ben-Hamu, Nickel and Le, 2023, Flow matching for generative modeling",
        FlowMatching,
        "steps:simple",
    ),
    _row(
        "infusion",
        "Bordes, Honari and Vincent, 2017, Learning to generate samples from noise through "
        "infusion training",
        Infusion,
        "infuse",
    ),
    _row(
        "variational-walkback",
        "Goyal, Ke, Ganguli and Bengio, 2017, Variational walkback: learning a transition operator "
        "as a stochastic recurrent net",
        VariationalWalkback,
        "elbo",
    ),
)
