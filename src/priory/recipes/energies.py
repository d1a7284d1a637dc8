"""Energy machines: restricted Boltzmann machines of binary and of real data."""

from typing import Any

from priory.models import RBM
from priory.recipes.recipe import Recipe


def _row(
    name: str, paper: str, loss: str, *, rate: float = 0.2, grey: bool = False, **options: Any
) -> Recipe:
    """Return a row whose rate falls to 0, so that the chains catch up with the weights.

    Args:
        name: by which the row is asked for.
        paper: authors, year, title.
        loss: the objective, as text.
        rate: at the start.
        grey: whether images keep their grey levels.
        options: of the pair.
    """
    training = {
        "epochs": 100,
        "batch_size": 100,
        "lr": rate,
        "schedule": "linear",
        "optim": "sgd",
        "valid_every": 0,
    }
    return Recipe(name, paper, RBM, loss, options, training, grey=grey)


ROWS = (
    _row(
        "rbm",
        "Tieleman, 2008, Training restricted Boltzmann machines using approximations to the "
        "likelihood gradient",
        "contrast",
    ),
    _row(
        "rbm-cd",
        "Hinton, 2002, Training products of experts by minimizing contrastive divergence",
        "contrast:k=1:persistent=false",
    ),
    _row(
        "gaussian-rbm",
        "Welling, Rosen-Zvi and Hinton, 2004, Exponential family harmoniums with an application to "
        "information retrieval",
        "contrast",
        rate=0.003,
        grey=True,
        likelihood="normal",
    ),
)
