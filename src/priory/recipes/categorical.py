"""Pairs with a categorical code: clusters, few labels, disentangled codes."""

from priory.models import AAE, InfoGAN
from priory.recipes.recipe import Recipe

_CRITIC = "critic=(mlp:128,128)"
_NETS = {"encoder": "mlp:128,128:batch_norm=true", "decoder": "mlp:128,128:batch_norm=true"}
_TRAINING = {"steps": 1500, "lr": 2e-3, "schedule": "cosine", "optim": "adam:betas=0.5,0.999"}
_PAPER = "Makhzani et al., 2016, Adversarial autoencoders"

ROWS = (
    Recipe(
        "aae-clusters",
        f"{_PAPER}; clusters without labels",
        AAE,
        f"reconstruction + adversarial:c:{_CRITIC} + adversarial:z:{_CRITIC}",
        {**_NETS, "codes": 16},
        _TRAINING,
    ),
    Recipe(
        "aae-semi",
        f"{_PAPER}; few labels: --data.labelled 100",
        AAE,
        # One critic of both makes them independent too, so that samples obey the code.
        f"reconstruction + 5*adversarial:c,z:{_CRITIC} + 10*classification:c",
        {**_NETS, "latent": 10},
        _TRAINING,
    ),
    Recipe(
        "infogan",
        "Chen et al., 2016, InfoGAN: interpretable representation learning",
        InfoGAN,
        # The continuous codes would else take all that the samples can show.
        "adversarial:x:critic=(mlp:128,128:leaky-relu-0.2):rate=0.5 + sleep:c + 0.1*sleep:u",
        {
            "latent": 8,
            "noise": 0.4,
            "encoder": "mlp:128,128:batch_norm=true",
            "generator": "mlp:128,128:batch_norm=true:output=sigmoid",
        },
        {"steps": 2000, "optim": "adam:betas=0.5,0.999"},
        grey=True,
    ),
)
