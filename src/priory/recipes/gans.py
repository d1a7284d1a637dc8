"""Generative adversarial nets: one generator, and the games that a critic plays with it."""

from typing import Any

from priory.models import GAN
from priory.recipes.recipe import Recipe

_NET = "mlp:128,128:leaky-relu"
_SETS = f"features=({_NET}):head=(mlp:64:leaky-relu):width=64:size=16"


def _gan(
    name: str,
    paper: str,
    game: str = "",
    critic: str = _NET,
    generator: str = "mlp:128,128,128:leaky-relu",
    **training: Any,
) -> Recipe:
    """Return a row with nets and training sized for toys in the plane.

    Args:
        name: by which the row is asked for.
        paper: authors, year, title.
        game: options of the adversarial term, as text.
        critic: its net, as text.
        generator: the pair's, as text.
        training: of `fit`, where it differs from the other rows'.
    """
    shared = {
        "steps": 3000,
        "batch_size": 128,
        "lr": 2e-3,
        "schedule": "cosine",
        "optim": "adam:betas=0.5,0.999",
        "ema": 0.99,
    }
    return Recipe(
        name,
        paper,
        GAN,
        ":".join(["adversarial:x", f"critic=({critic})", *filter(None, [game])]),
        {"generator": generator},
        {**shared, **training},
        data="ring",
    )


ROWS = (
    _gan(
        "gan",
        "Goodfellow et al., 2014, Generative adversarial nets; the minimax game of its theory",
        "game=minimax",
    ),
    _gan(
        "ns-gan",
        "Goodfellow et al., 2014, Generative adversarial nets; the non-saturating game of its "
        "practice",
    ),
    _gan(
        "lsgan",
        "Mao et al., 2017, Least squares generative adversarial networks",
        "game=least-squares",
    ),
    _gan(
        "hinge-gan",
        "Miyato et al., 2018, Spectral normalization for generative adversarial networks; the "
        "hinge of Lim and Ye, 2017, Geometric GAN",
        "game=hinge:steps=5",
        f"{_NET}:spectral=true",
        lr=1e-3,
        optim="adam:betas=0.0,0.9",
    ),
    _gan(
        "f-gan",
        "Nowozin, Cseke and Tomioka, 2016, f-GAN; game=kl, reverse-kl or chi-square",
        "game=reverse-kl",
    ),
    _gan(
        "wgan",
        "Arjovsky, Chintala and Bottou, 2017, Wasserstein generative adversarial networks",
        "game=wasserstein:steps=5:clip=0.1",
        lr=5e-4,
        optim="rmsprop",
    ),
    _gan(
        "wgan-gp",
        "Gulrajani et al., 2017, Improved training of Wasserstein GANs; the penalty of its toys",
        "game=wasserstein:steps=5:gradient_penalty=0.1",
        optim="adam:betas=0.5,0.9",
    ),
    _gan(
        "r1-gan",
        "Mescheder, Geiger and Nowozin, 2018, Which training methods for GANs do actually "
        "converge?",
        "r1=0.02",
    ),
    _gan(
        "r3gan",
        "Huang et al., 2024, The GAN is dead; long live the GAN! A modern GAN baseline",
        "game=relativistic:r1=0.02:r2=0.02",
        "fourier:64:0.3:6:128,128",
        "fourier:32:0.3:3:128,128,128,128",
        steps=6000,
        lr=4e-3,
    ),
    _gan(
        "pacgan",
        "Lin, Khetan, Fanti and Oh, 2018, PacGAN: the power of two samples in generative "
        "adversarial networks",
        "pack=2",
    ),
    _gan(
        "dan-s",
        "Li, Alvarez-Melis, Xu, Jegelka and Sra, 2017, Distributional adversarial networks; a "
        "critic of one set",
        critic=f"deep-mean:{_SETS}",
    ),
    _gan(
        "dan-2s",
        "Li, Alvarez-Melis, Xu, Jegelka and Sra, 2017, Distributional adversarial networks; a "
        "critic of two sets",
        critic=f"two-sample:{_SETS}",
    ),
    Recipe(
        "dcgan",
        "Radford, Metz and Chintala, 2016, Unsupervised representation learning with deep "
        "convolutional generative adversarial networks",
        GAN,
        "adversarial:x:critic=(dcgan-critic:32,64)",
        {"generator": "dcgan:32,64", "latent": 100},
        {"steps": 1500, "batch_size": 128, "lr": 2e-4, "optim": "adam:betas=0.5,0.999"},
        grey=True,
    ),
)
