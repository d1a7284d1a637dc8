"""What likelihoods of counts have in common: the check, what nets read, the starts."""

import torch
from torch import Tensor

from priory.likelihoods.base import Likelihood, first_outside
from priory.likelihoods.values import is_table

LEAST = 1e-3  # the least mean that a map starts at
_LEFT = 0.1  # of the dispersion, at the start
_FEW, _MANY = 0.01, 0.9  # shares of zeros of another kind that a gate starts between


class CountHead(Likelihood):
    """A head of counts 0, 1, 2, ...; the first map is of the logarithms of their means.

    Nets read log(1 + x), of a table less its mean and divided by its standard deviation over the
    training rows; probabilities are of the counts themselves.
    """

    centre: Tensor
    unit: Tensor

    def make(self, x: Tensor) -> None:
        """Take the units of the logarithms."""
        seen = x.log1p()
        dims = (0,) if is_table(x) else tuple(range(x.dim()))
        spread = seen.std(dims, correction=0)
        self.register_buffer("centre", seen.mean(dims))
        self.register_buffer("unit", torch.where(spread > 1e-6, spread, 1.0))

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is a count."""
        inside = (x >= 0) & (x == x.round()) & x.isfinite()
        if inside.all():
            return
        mend = "leave standardise out, " if bool((x < 0).any()) else "round them, "
        raise ValueError(
            f"the {self.name} likelihood expected counts 0, 1, 2, ..., got "
            f"{first_outside(x, inside)}: {mend}or use likelihood='normal'"
        )

    def scaled(self, x: Tensor) -> Tensor:
        """Return log(1 + x) in its units, for data (*batch, *shape)."""
        return (x.clamp(min=0.0).log1p() - self.centre) / self.unit


def log_mean(x: Tensor) -> Tensor:
    """Return the logarithm of the training mean, (*shape)."""
    return x.mean(0).clamp(min=LEAST).log()


def log_dispersion(x: Tensor) -> Tensor:
    """Return the logarithm of a tenth of the dispersion that the variance is of, (*shape).

    The latents are to explain the rest: started at all of it, they are left idle.
    """
    mean = x.mean(0).clamp(min=LEAST)
    excess = x.var(0, correction=0) - mean
    return (_LEFT * excess / mean.square()).clamp(1e-2, 1e2).log()


def gate(x: Tensor, zero: Tensor) -> Tensor:
    """Return the log-odds of zeros beyond those of the counts alone, (*shape).

    Args:
        x: Training data, (n, *shape).
        zero: The counts' own probability of 0, (*shape).
    """
    share = (x == 0).to(x.dtype).mean(0)
    return ((share - zero) / (1 - zero).clamp(min=1e-6)).clamp(_FEW, _MANY).logit()
