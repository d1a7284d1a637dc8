"""Counts that vary more than their mean."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.counts import IndependentNegativeBinomial
from priory.likelihoods.base import word_or_positive
from priory.likelihoods.counts import CountHead, log_dispersion, log_mean


class Dispersed(CountHead):
    """A head of counts with a dispersion a: their mean is r and their variance r + a r^2.

    Args:
        dispersion: "column" for one of each coordinate learned with the decoder, "cell" for one
            from the decoder at every coordinate, or a fixed number.

    Raises:
        ValueError: The dispersion is neither of the words nor a positive number.
    """

    maps: int = 2  # of the decoder, with a dispersion

    def __init__(self, dispersion: str | float = "column") -> None:
        super().__init__()
        self.dispersion = word_or_positive("dispersion", dispersion, ("column", "cell"))
        self.params = self.maps if dispersion == "cell" else self.maps - 1

    def make(self, x: Tensor) -> None:
        """Take the units, and make the log dispersion: learned from the variance, or fixed."""
        super().make(x)
        if self.dispersion == "column":
            self.log_dispersion = nn.Parameter(log_dispersion(x).detach().clone())
        elif self.dispersion != "cell":
            fixed = torch.full_like(x[0], math.log(float(self.dispersion)))
            self.register_buffer("log_dispersion", fixed, persistent=False)

    def dispersed(self, maps: tuple[Tensor, ...], event_dim: int) -> IndependentNegativeBinomial:
        """Return the counts for maps (log rates, ...), the last one of dispersions where it is."""
        log_dispersion = maps[-1] if self.dispersion == "cell" else self.log_dispersion
        return IndependentNegativeBinomial(maps[0], log_dispersion, event_dim)


class NegativeBinomial(Dispersed):
    r"""Independent negative binomial counts; a map of log means and, per cell, of log dispersions.

    .. math:: x_i \sim \mathrm{NB}(\text{mean } r_i = e^{m_i}, \text{variance } r_i + a_i r_i^2)

    Log means and log dispersions are kept in [-30, 30]. Anscombe, 1950, Sampling theory of the
    negative binomial and logarithmic series distributions; of counts of genes under a VAE, Lopez,
    Regier, Cole, Jordan and Yosef, 2018, Deep generative modeling for single-cell transcriptomics,
    without their size of a cell.

    Args:
        dispersion: "column" for one a of each coordinate learned with the decoder, "cell" for one
            from the decoder at every coordinate, or a fixed number.

    Raises:
        ValueError: The dispersion is neither of the words nor a positive number.

    Example:
        >>> head = NegativeBinomial()
        >>> head.build(torch.arange(10.0).unsqueeze(1))
        >>> head(torch.zeros(5, 1, 1)).mean.shape
        torch.Size([5, 1])
    """

    name = "negative-binomial"

    def bias(self, x: Tensor) -> Tensor:
        """Return the logarithms of the training mean and, per cell, of the dispersion."""
        maps = [log_mean(x)] + ([log_dispersion(x)] if self.dispersion == "cell" else [])
        return torch.stack(maps)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log means,) or (log means, log dispersions)."""
        return self.dispersed(maps, event_dim)
