"""Pairs that are conditioned on labels."""

from priory.models import CVAE, ConditionalGAN
from priory.recipes.recipe import Recipe

_GENERATOR = {"generator": "mlp:128,128:batch_norm=true:output=sigmoid"}
_ADVERSARIAL = {"steps": 2000, "lr": 1e-3, "optim": "adam:betas=0.5,0.999"}

ROWS = (
    Recipe(
        "cvae",
        "Sohn et al., 2015, Learning structured output representation using deep conditional "
        "generative models",
        CVAE,
        "elbo",
        {"encoder": "mlp:128", "decoder": "mlp:128"},
        {"steps": 1000, "lr": 2e-3, "schedule": "cosine"},
    ),
    Recipe(
        "cgan",
        "Mirza and Osindero, 2014, Conditional generative adversarial nets",
        ConditionalGAN,
        "adversarial:x,y:critic=(mlp:128,128:leaky-relu-0.2)",
        _GENERATOR,
        _ADVERSARIAL,
        grey=True,
    ),
    Recipe(
        "cgan-projection",
        "Miyato and Koyama, 2018, cGANs with projection discriminator",
        ConditionalGAN,
        "adversarial:x,y:critic=(projection:(mlp:128:leaky-relu-0.2:spectral=true):64):game=hinge",
        _GENERATOR,
        _ADVERSARIAL,
        grey=True,
    ),
)
