"""Autoencoders whose codes are made to follow the prior by a divergence or a critic, and GLO.

Each is a cost of reconstruction plus a weight times the mismatch of the codes' distribution q(z),
the average of q(z | x) over the data, with the prior. A weight is in units of the cost: on data of
more features the cost is larger, and so must the weight be.

InfoVAE maximises E log p(x | z) - (1 - alpha) KL(q(z | x), p(z)) - (alpha + lambda - 1)
D(q(z), p(z)). As -ELBO of weight beta plus w D it has alpha = 1 - beta and lambda = w + beta: with
beta = 0.5 and w = 100, alpha = 0.5 and lambda = 100.5. beta = 1 and w = 0 is the VAE, beta = 0 the
MMD-VAE, which still draws its codes; with point codes and a squared cost that is the WAE.
"""

from typing import Any

from priory.models import GLO, VAE
from priory.recipes.recipe import Recipe

_SQUARED = "reconstruction:cost=squared"
_POINTS = {"deterministic": True, "likelihood": "delta", "latent": 8}


def _autoencoder(
    name: str,
    paper: str,
    loss: str,
    options: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Recipe:
    """Return a row with nets and training sized for the digits."""
    nets = {"encoder": "mlp:128", "decoder": "mlp:128"}
    shared = {**nets, **_POINTS, **(options or {})}
    steps = {"steps": 1000, "lr": 2e-3, "schedule": "cosine"}
    grey = shared["likelihood"] == "delta"
    return Recipe(name, paper, VAE, loss, shared, {**steps, **(training or {})}, grey=grey)


_DRAWN = {"deterministic": False, "likelihood": "auto"}

ROWS = (
    _autoencoder(
        "autoencoder",
        "Hinton and Salakhutdinov, 2006, Reducing the dimensionality of data with neural networks",
        _SQUARED,
    ),
    _autoencoder(
        "wae-mmd",
        "Tolstikhin et al., 2018, Wasserstein auto-encoders",
        f"{_SQUARED} + 100*match:mmd:z",
    ),
    # Without the penalty on its slope (Mescheder et al., 2018) the critic throws point codes about.
    _autoencoder(
        "wae-gan",
        "Tolstikhin et al., 2018, Wasserstein auto-encoders",
        f"{_SQUARED} + adversarial:z:critic=(mlp:128,128):r1=0.1",
    ),
    _autoencoder(
        "sliced-wae",
        "Kolouri et al., 2019, Sliced Wasserstein auto-encoders",
        f"{_SQUARED} + 100*match:sliced:z",
    ),
    # A temperature of a quarter of the prior's mean squared distance, 2 x latent: with less, the
    # divergence of a batch from the prior is far above 0 when the distributions agree, and codes
    # shrink.
    _autoencoder(
        "sinkhorn-ae",
        "Patrini et al., 2019, Sinkhorn autoencoders",
        f"{_SQUARED} + 10*match:(sinkhorn:eps=4:steps=10):z",
    ),
    _autoencoder(
        "info-vae",
        "Zhao, Song and Ermon, 2019, InfoVAE: balancing learning and inference",
        "elbo:beta=0.5 + 100*match:mmd:z",
        _DRAWN,
    ),
    _autoencoder(
        "aae",
        "Makhzani et al., 2016, Adversarial autoencoders",
        "reconstruction + 10*adversarial:z:critic=(mlp:128,128):r1=0.1",
        _DRAWN,
    ),
    _autoencoder(
        "vae-gan",
        "Larsen et al., 2016, Autoencoding beyond pixels using a learned similarity metric",
        "kl + reconstruction:cost=features + adversarial:x:critic=(mlp:128,128:leaky-relu):mean=x",
        {"deterministic": False},
        {"optim": "adam:betas=0.5,0.999"},
    ),
    Recipe(
        "glo",
        "Bojanowski et al., 2018, Optimizing the latent space of generative networks",
        GLO,
        f"reconstruction:cost=laplacian + {_SQUARED}",
        {"generator": "mlp:128", "latent": 8},
        {"steps": 2000, "lr": 2e-3, "schedule": "cosine"},
        grey=True,
    ),
)
