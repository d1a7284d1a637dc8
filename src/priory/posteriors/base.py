"""What every posterior is: a head that turns an encoder's features into q(z | .)."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class Posterior(ABC):
    """A head over features of shape (*batch, params, latent).

    Attributes:
        name: What it is called.
        params: How many features it has for a coordinate.
        support: The latents that it covers, by a torch constraint; None for one that is asked for.
    """

    name: ClassVar[str]
    params: ClassVar[int]
    support: ClassVar[Any] = None

    @abstractmethod
    def __call__(self, features: Tensor) -> TorchDistribution:
        """Return a distribution of batch shape (*batch) and event shape (latent,)."""

    @classmethod
    def covers(cls, support: Any) -> bool:
        """Say whether it is the family for latents of a support, a constraint on a coordinate."""
        if isinstance(support, constraints.interval) and isinstance(
            cls.support, constraints.interval
        ):
            own = cls.support.lower_bound, cls.support.upper_bound
            return own == (support.lower_bound, support.upper_bound)
        return support is cls.support
