"""Normalising flows: exact densities of tables, and of images' levels with noise between them."""

from typing import Any

from priory.models import NormalizingFlow
from priory.recipes.recipe import Recipe


def _row(name: str, paper: str, flow: str, **more: Any) -> Recipe:
    """Return a row with a training sized for a toy set in the plane."""
    training = {"steps": 1500, "batch_size": 256, "lr": 2e-3, "schedule": "cosine", "clip": 5.0}
    training |= more.pop("training", {})
    options = {"flow": flow, **more.pop("options", {})}
    return Recipe(name, paper, NormalizingFlow, "elbo", options, training, grey=True, **more)


ROWS = (
    _row(
        "nice",
        "Dinh, Krueger and Bengio, 2015, NICE: non-linear independent components estimation",
        "nice:8",
    ),
    _row(
        "realnvp",
        "Dinh, Sohl-Dickstein and Bengio, 2017, Density estimation using Real NVP",
        "realnvp:8:steepest=10",
        data="two-moons",
    ),
    _row(
        "maf",
        "Papamakarios, Pavlakou and Murray, 2017, Masked autoregressive flow for density "
        "estimation",
        "maf:5:steepest=10",
    ),
    _row(
        "nsf",
        "Durkan, Bekasov, Murray and Papamakarios, 2019, Neural spline flows",
        "nsf:bins=32",
        data="grid",
        training={"steps": 2000},
    ),
    _row(
        "glow",
        "Kingma and Dhariwal, 2018, Glow: generative flow with invertible 1x1 convolutions",
        "glow",
        training={"steps": 1000, "batch_size": 128, "lr": 1e-3},
    ),
    _row(
        "variational-glow",
        "Ho, Chen, Srinivas, Duan and Abbeel, 2019, Flow++: improving flow-based generative models "
        "with variational dequantization and architecture design",
        "glow",
        options={"dequantise": "variational"},
        training={"steps": 1000, "batch_size": 128, "lr": 1e-3},
    ),
)
