"""Autoregressive density models: exact likelihoods without any latent."""

import pyro
from torch import Tensor

from priory.likelihoods import Likelihood
from priory.models.pair import Pair
from priory.nets import AutoregressiveDecoder, AutoregressiveNet


class Autoregressive(Pair):
    r"""A density by the chain rule, with no latent; every bound is log p(x).

    .. math:: x_i \sim p(x_i; f_i(x_1, \dots, x_{i-1}))

    Germain et al., 2015, MADE: masked autoencoder for distribution estimation; van den Oord et al.,
    2016, Pixel recurrent neural networks. A sample takes a pass of the net for each coordinate or
    pixel.

    Args:
        decoder: f; an autoregressive net, or a name.
        likelihood: Of a coordinate; "auto" takes the one that fits the training data's values.

    Example:
        >>> import torch
        >>> pair, x = Autoregressive("made"), torch.rand(10, 5).round()
        >>> pair.build(x)
        >>> pair.decoder().log_prob(x).shape
        torch.Size([10])
    """

    name = "autoregressive"

    def __init__(
        self,
        decoder: AutoregressiveNet | str = "made",
        likelihood: Likelihood | str = "auto",
    ) -> None:
        super().__init__()
        self.decoder = AutoregressiveDecoder(decoder, likelihood=likelihood)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("x", self.decoder(), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare nothing: there is no latent."""
        self.register(x)
