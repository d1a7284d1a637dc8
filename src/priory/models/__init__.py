"""Pairs of Pyro programs, one file for each family."""

from priory.models.aae import AAE
from priory.models.conditional import CVAE, ConditionalGAN
from priory.models.cyclegan import CycleGAN
from priory.models.gan import GAN
from priory.models.glo import GLO
from priory.models.infogan import InfoGAN
from priory.models.pair import Pair
from priory.models.stacked import StackedGAN
from priory.models.vae import VAE

PAIRS: dict[str, type[Pair]] = {
    "aae": AAE,
    "conditional-gan": ConditionalGAN,
    "cvae": CVAE,
    "cyclegan": CycleGAN,
    "gan": GAN,
    "glo": GLO,
    "infogan": InfoGAN,
    "stacked-gan": StackedGAN,
    "vae": VAE,
}

__all__ = [
    "AAE",
    "CVAE",
    "GAN",
    "GLO",
    "PAIRS",
    "VAE",
    "ConditionalGAN",
    "CycleGAN",
    "InfoGAN",
    "Pair",
    "StackedGAN",
]
