"""Posterior heads: what turns an encoder's features into a distribution over a latent."""

import math
from abc import ABC, abstractmethod
from typing import Any

from pyro.distributions import Delta, TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from priory.nets.distributions import IndependentNormal
from priory.nets.kumaraswamy import Kumaraswamy


class Posterior(ABC):
    """A head over features of shape (*batch, params, latent)."""

    params: int

    @abstractmethod
    def __call__(self, features: Tensor) -> TorchDistribution:
        """Return a distribution of batch shape (*batch) and event shape (latent,)."""


class NormalPosterior(Posterior):
    """Independent normal coordinates: features are the means and the log standard deviations.

    Log standard deviations in [-12, 4] are taken as they are; those beyond tend to -13 and 5, with
    a gradient that leads back, so that no odd datum draws a latent without bound.
    """

    params = 2
    least, most = -12.0, 4.0

    def __call__(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        loc, log_scale = features.unbind(-2)
        inner = log_scale.clamp(self.least, self.most)
        rest = log_scale - inner
        return IndependentNormal(loc, inner + rest / (1 + rest.abs()), 1)


class DeltaPosterior(Posterior):
    """A point: features are the latent itself, so that the encoder is deterministic."""

    params = 1

    def __call__(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 1, latent)."""
        return Delta(features.squeeze(-2), event_dim=1)


class KumaraswamyPosterior(Posterior):
    """Independent Kumaraswamy coordinates in the unit interval.

    Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders. Features of zero give the
    law Kumaraswamy(1, 5), which is Beta(1, 5). Shapes are at most about 10^6.
    """

    params = 2
    least = 1e-3
    most = 1e6
    starts = (1.0, 5.0)

    def __call__(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        kept = features.clamp(max=self.most).unbind(-2)
        a, b = (
            softplus(feature + math.log(math.expm1(start - self.least))) + self.least
            for feature, start in zip(kept, self.starts, strict=True)
        )
        return Kumaraswamy(a, b).to_event(1)


def posterior_for(support: Any, deterministic: bool = False) -> Posterior:
    """Return the posterior family that fits a prior's support.

    Args:
        support: A torch constraint on each coordinate of the latent, or on the whole event.
        deterministic: Whether it is to be a point, whatever the support.

    Raises:
        ValueError: No family covers the support.

    Example:
        >>> type(posterior_for(constraints.real)).__name__
        'NormalPosterior'
    """
    if deterministic:
        return DeltaPosterior()
    base = support
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    if base is constraints.real:
        return NormalPosterior()
    if isinstance(base, constraints.interval) and (base.lower_bound, base.upper_bound) == (0, 1):
        return KumaraswamyPosterior()
    raise ValueError(f"no posterior for support {support}; the supported are real, unit_interval")
