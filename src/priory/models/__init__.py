"""Pairs of Pyro programs, one file for each family."""

from torch import nn

from priory.models.gan import GAN
from priory.models.vae import VAE

PAIRS: dict[str, type[nn.Module]] = {"gan": GAN, "vae": VAE}

__all__ = ["GAN", "PAIRS", "VAE"]
