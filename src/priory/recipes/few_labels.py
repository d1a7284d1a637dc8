"""Few labels: pairs of which some rows show their class, --data.labelled 100."""

from typing import Any

from priory.models import M2
from priory.recipes.recipe import Recipe

_NETS = {"encoder": "mlp:128", "classifier": "mlp:128", "decoder": "mlp:128"}


def _few_labels(name: str, paper: str, **options: Any) -> Recipe:
    """Return a row for M2, with nets and training sized for the digits."""
    loss = "labelled-elbo + classification:y"
    training = {"steps": 1500, "lr": 2e-3, "schedule": "cosine"}
    return Recipe(name, f"{paper}; few labels: --data.labelled 100", M2, loss, options, training)


ROWS = (
    _few_labels(
        "m2",
        "Kingma et al., 2014, Semi-supervised learning with deep generative models, the model M2",
        **_NETS,
        latent=8,
    ),
    _few_labels(
        "sb-dgm",
        "Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders",
        **_NETS,
        prior="stick-breaking:5",
        latent=8,
    ),
)
