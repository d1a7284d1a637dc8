"""Energy machines: restricted Boltzmann machines, deep ones, and a general one."""

from collections.abc import Sequence
from typing import Any

from priory.inference import Contrast, Greedy, Unfold
from priory.models import DBM, DBN, RBM, BoltzmannMachine, DeepAutoencoder, SoftmaxRBM
from priory.recipes.recipe import Recipe

_TRAINING = {
    "epochs": 100,
    "batch_size": 100,
    "schedule": "linear",
    "optim": "sgd",
    "valid_every": 0,
}


def _row(
    name: str,
    paper: str,
    loss: str,
    *,
    family: type[Any] = RBM,
    rate: float = 0.5,
    grey: bool = False,
    **options: Any,
) -> Recipe:
    """Return a row whose rate falls to 0, so that the chains catch up with the weights.

    Args:
        name: by which the row is asked for.
        paper: authors, year, title.
        loss: the objective, as text.
        family: of pairs.
        rate: at the start.
        grey: whether images keep their grey levels.
        options: of the pair.
    """
    return Recipe(name, paper, family, loss, options, {**_TRAINING, "lr": rate}, grey=grey)


def _greedy(
    count: int, parts: Sequence[str], rates: Sequence[float], epochs: int
) -> tuple[Greedy, ...]:
    """Return the stages that train a pair's machines, `rbm1` and so on, by short chains.

    Args:
        count: of machines.
        parts: of the pair that are none of them.
        rates: of each machine.
        epochs: of each machine.
    """
    names = [f"rbm{n + 1}" for n in range(count)]
    return tuple(
        Greedy(
            name=name,
            objective=Contrast(persistent=False, layer=n + 1),
            frozen=(*parts, *(other for other in names if other != name)),
            epochs=epochs,
            lr=rates[n],
            schedule="linear",
        )
        for n, name in enumerate(names)
    )


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
    _row(
        "softmax-rbm",
        "Salakhutdinov, Mnih and Hinton, 2007, Restricted Boltzmann machines for collaborative "
        "filtering",
        "contrast",
        family=SoftmaxRBM,
    ),
    Recipe(
        "dbn",
        "Hinton, Osindero and Teh, 2006, A fast learning algorithm for deep belief nets",
        DBN,
        "wake + sleep:detached=true",
        {"sweeps": 50},
        {**_TRAINING, "epochs": 50, "lr": 0.3},
        stages=(
            Unfold(
                name="rbm",
                objective=Contrast(),
                frozen=("encoder", "decoder"),
                epochs=100,
                lr=0.5,
                schedule="linear",
            ),
        ),
    ),
    _row(
        "dbm",
        "Salakhutdinov and Hinton, 2009, Deep Boltzmann machines; centred, as in Montavon and "
        "Müller, 2012",
        "contrast",
        family=DBM,
    ),
    Recipe(
        "dbm-pretrained",
        "Salakhutdinov and Hinton, 2009, Deep Boltzmann machines",
        DBM,
        "contrast",
        {"pretrained": True},
        {**_TRAINING, "epochs": 50, "lr": 0.5, "frozen": ("rbm1", "rbm2")},
        stages=_greedy(2, ("machine",), (0.5, 0.5), 50),
    ),
    _row(
        "boltzmann",
        "Ackley, Hinton and Sejnowski, 1985, A learning algorithm for Boltzmann machines",
        "contrast",
        family=BoltzmannMachine,
        hidden=8,
    ),
    Recipe(
        "deep-autoencoder",
        "Hinton and Salakhutdinov, 2006, Reducing the dimensionality of data with neural networks",
        DeepAutoencoder,
        "reconstruction",
        training={
            "epochs": 60,
            "batch_size": 100,
            "lr": 0.01,
            "schedule": "cosine",
            "frozen": ("rbm1", "rbm2", "rbm3", "rbm4"),
            "valid_every": 0,
        },
        stages=_greedy(4, ("encoder", "decoder"), (0.03, 0.03, 0.03, 0.01), 20),
    ),
)
