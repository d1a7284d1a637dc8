"""Shares, between 0 and 1."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.continuous import IndependentBeta
from priory.likelihoods.base import Likelihood, first_outside, word_or_positive


class Beta(Likelihood):
    r"""Independent numbers between 0 and 1, neither included; a map of the log-odds of their means.

    .. math:: x_i \sim \mathrm{Beta}(c_i r_i, c_i (1 - r_i)), \quad r_i = \sigma(m_i)

    m is kept in [-15, 15], log c in [-10, 15].

    Args:
        concentration: "column" for one c of each coordinate learned with the decoder, "cell" for
            one from the decoder at every coordinate, or a fixed number.

    Raises:
        ValueError: The concentration is neither of the words nor a positive number.

    Example:
        >>> head = Beta()
        >>> head.build(0.1 + 0.8 * torch.rand(10, 4))
        >>> head(torch.zeros(5, 1, 4)).mean.shape
        torch.Size([5, 4])
    """

    name = "beta"

    def __init__(self, concentration: str | float = "column") -> None:
        super().__init__()
        self.concentration = word_or_positive("concentration", concentration, ("column", "cell"))
        self.params = 2 if concentration == "cell" else 1

    def make(self, x: Tensor) -> None:
        """Make the log concentration: learned from the spread, or fixed."""
        if self.concentration == "column":
            self.log_concentration = nn.Parameter(_log_concentration(x).detach().clone())
        elif self.concentration != "cell":
            fixed = torch.full_like(x[0], math.log(float(self.concentration)))
            self.register_buffer("log_concentration", fixed, persistent=False)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is above 0 and below 1."""
        inside = (x > 0) & (x < 1)
        if not inside.all():
            raise ValueError(
                "the beta likelihood expected values above 0 and below 1, got "
                f"{first_outside(x, inside)}: scale the data, draw them in, as by (x (n - 1) + 0.5)"
                " / n for n rows, or use likelihood='continuous-bernoulli', which takes 0 and 1"
            )

    def blank(self, x: Tensor) -> Tensor:
        """Return halves, which are in the support."""
        return torch.full_like(x, 0.5)

    def bias(self, x: Tensor) -> Tensor:
        """Return the log-odds of the training mean and, per cell, the log concentration."""
        maps = [torch.logit(x.mean(0).clamp(1e-5, 1 - 1e-5))]
        return torch.stack(maps + ([_log_concentration(x)] if self.concentration == "cell" else []))

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log-odds,) or (log-odds, log concentrations)."""
        log_concentration = maps[1] if self.concentration == "cell" else self.log_concentration
        return IndependentBeta(maps[0], log_concentration, event_dim)


def _log_concentration(x: Tensor) -> Tensor:
    """Return the logarithm of the concentration that mean and variance are of, (*shape)."""
    mean = x.mean(0)
    spread = x.var(0, correction=0).clamp(min=torch.finfo(x.dtype).eps)
    return (mean * (1 - mean) / spread - 1).clamp(1e-1, 1e4).log()
