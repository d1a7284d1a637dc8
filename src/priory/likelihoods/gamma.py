"""Positive data."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.continuous import IndependentGamma
from priory.likelihoods.base import Likelihood, first_outside, word_or_positive
from priory.likelihoods.values import is_table


class Gamma(Likelihood):
    r"""Independent positive numbers, skewed to the right; a map of log means in their units.

    .. math:: x_i \sim \mathrm{Gamma}(\text{mean } r_i = b_i e^{m_i}, \text{variance } r_i^2 / k_i)

    b is the training mean, of each column of a table. Nets read log(x), less its mean and divided
    by its standard deviation. m is kept in [-30, 30], log k in [-10, 15].

    Args:
        concentration: "column" for one k of each coordinate learned with the decoder, "cell" for
            one from the decoder at every coordinate, or a fixed number; 1 is the exponential
            distribution.

    Raises:
        ValueError: The concentration is neither of the words nor a positive number.

    Example:
        >>> head = Gamma()
        >>> head.build(torch.rand(10, 4) + 0.1)
        >>> head(torch.zeros(5, 1, 4)).mean.shape
        torch.Size([5, 4])
    """

    name = "gamma"
    centre: Tensor
    unit: Tensor
    log_size: Tensor

    def __init__(self, concentration: str | float = "column") -> None:
        super().__init__()
        self.concentration = word_or_positive("concentration", concentration, ("column", "cell"))
        self.params = 2 if concentration == "cell" else 1

    def make(self, x: Tensor) -> None:
        """Take the units, and make the log concentration: learned from the spread, or fixed."""
        dims = (0,) if is_table(x) else tuple(range(x.dim()))
        seen = x.log()
        spread = seen.std(dims, correction=0)
        self.register_buffer("centre", seen.mean(dims))
        self.register_buffer("unit", torch.where(spread > 1e-6, spread, 1.0))
        self.register_buffer("log_size", x.mean(dims).log())
        if self.concentration == "column":
            self.log_concentration = nn.Parameter(_log_shape(x).detach().clone())
        elif self.concentration != "cell":
            fixed = torch.full_like(x[0], math.log(float(self.concentration)))
            self.register_buffer("log_concentration", fixed, persistent=False)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is positive and finite."""
        inside = (x > 0) & x.isfinite()
        if not inside.all():
            raise ValueError(
                f"the gamma likelihood expected positive numbers, got {first_outside(x, inside)}: "
                "leave standardise out, set such rows apart, or use likelihood='normal'"
            )

    def blank(self, x: Tensor) -> Tensor:
        """Return ones, which are in the support."""
        return torch.ones_like(x)

    def scaled(self, x: Tensor) -> Tensor:
        """Return log(x) in its units, for data (*batch, *shape)."""
        return (x.clamp(min=torch.finfo(x.dtype).tiny).log() - self.centre) / self.unit

    def bias(self, x: Tensor) -> Tensor:
        """Return the logarithms of the training mean in its units and, per cell, of the shape."""
        maps = [x.mean(0).log() - self.log_size]
        return torch.stack(maps + ([_log_shape(x)] if self.concentration == "cell" else []))

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (log means,) or (log means, log shapes)."""
        log_shape = maps[1] if self.concentration == "cell" else self.log_concentration
        return IndependentGamma(self.log_size + maps[0], log_shape, event_dim, self.log_size)


def _log_shape(x: Tensor) -> Tensor:
    """Return the logarithm of the shape that mean and variance are of, (*shape)."""
    ratio = x.mean(0).square() / x.var(0, correction=0).clamp(min=torch.finfo(x.dtype).tiny)
    return ratio.clamp(1e-2, 1e4).log()
