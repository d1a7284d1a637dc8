"""Sigmoid belief nets: one Helmholtz machine, trained by every way through bits."""

from priory.models import HelmholtzMachine
from priory.recipes.recipe import Recipe


def _net(name: str, paper: str, loss: str, layers: tuple[int, ...] = (50, 20)) -> Recipe:
    """Return a row for a belief net, with layers and training sized for the digits."""
    training = {"steps": 2000, "lr": 3e-3, "schedule": "cosine"}
    return Recipe(name, paper, HelmholtzMachine, loss, {"layers": layers}, training)


ROWS = (
    _net(
        "wake-sleep",
        "Hinton, Dayan, Frey and Neal, 1995, The wake-sleep algorithm for unsupervised neural nets",
        "wake + sleep:detached=true",
    ),
    _net(
        "rws",
        "Bornschein and Bengio, 2015, Reweighted wake-sleep",
        "wake:5 + sleep:detached=true",
    ),
    _net(
        "reinforce",
        "Mnih and Gregor, 2014, Neural variational inference and learning in belief networks; the "
        "other draws' mean is the baseline, as in Kool et al., 2019",
        "elbo:particles=5:gradient=score",
    ),
    _net(
        "vimco",
        "Mnih and Rezende, 2016, Variational inference for Monte Carlo objectives",
        "iwae:5:gradient=vimco",
    ),
    _net(
        "disarm",
        "Dong, Mnih and Tucker, 2020, DisARM: an antithetic gradient estimator for binary latents",
        "iwae:5:gradient=disarm",
    ),
    _net(
        "belief-net",
        "Neal, 1992, Connectionist learning of belief networks; few bits, summed out exactly",
        "elbo:gradient=enumerate",
        (5, 2),
    ),
)
