"""Few labels: pairs of which some rows show their class, --data.labelled 100."""

from typing import Any

from priory.inference import ELBO, Of, Stage
from priory.models import M1, M1M2, M2
from priory.recipes.recipe import Recipe

_NETS = {"encoder": "mlp:128", "classifier": "mlp:128", "decoder": "mlp:128", "latent": 8}
_PAPER = "Kingma et al., 2014, Semi-supervised learning with deep generative models, the model"


def _few_labels(name: str, paper: str, family: type[Any], loss: str, **options: Any) -> Recipe:
    """Return a row with nets and training sized for the digits."""
    training = {"steps": 1500, "lr": 2e-3, "schedule": "cosine"}
    paper = f"{paper}; few labels: --data.labelled 100"
    return Recipe(name, paper, family, f"{loss} + classification:y", {**_NETS, **options}, training)


ROWS = (
    _few_labels("m1", f"{_PAPER} M1", M1, "elbo"),
    _few_labels("m2", f"{_PAPER} M2", M2, "labelled-elbo"),
    Recipe(
        "m1-m2",
        f"{_PAPER} M1+M2; few labels: --data.labelled 100",
        M1M2,
        "of:m2:(labelled-elbo + 10*classification:y)",
        {
            **dict.fromkeys(("encoder", "decoder", "classifier"), "mlp:128"),
            **dict.fromkeys(("upper_encoder", "upper"), "mlp:128"),
            "latents": (16, 8),
        },
        {"steps": 1500, "lr": 2e-3, "schedule": "cosine", "frozen": ("encoder", "decoder")},
        stages=(
            Stage(
                name="m1",
                objective=Of("m1", ELBO()),
                frozen=("prior", "classifier", "upper_encoder", "upper"),
                steps=1500,
                lr=2e-3,
                schedule="cosine",
            ),
        ),
    ),
    _few_labels(
        "sb-dgm",
        "Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders",
        M2,
        "labelled-elbo",
        prior="stick-breaking:5",
    ),
)
