"""What every posterior is: a head that turns an encoder's features into q(z | .)."""

from abc import abstractmethod
from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.part import Part, Shape


class Posterior(Part):
    """A head over features, of shape (*batch, params, latent) unless `outputs` says otherwise.

    Attributes:
        name: What it is called.
        params: How many features it has for a coordinate, where all have as many.
        support: The latents that it covers, by a torch constraint; None for one that is asked for.
        automatic: Whether it is what a prior of that support gets where none is asked for.
    """

    name: ClassVar[str]
    params: ClassVar[int]
    support: ClassVar[Any] = None
    automatic: ClassVar[bool] = True
    _kind = "posterior"

    def outputs(self, latent: int) -> Shape:
        """Return the shape of its features.

        Args:
            latent: Number of latent coordinates.
        """
        return self.params, latent

    def build(self, latent: int) -> None:
        """Make its own parameters; one without any may be built again for the same size.

        Args:
            latent: Number of latent coordinates.

        Raises:
            ValueError: It is already built for another size, or has another pair's parameters.
        """
        if self.built_for == latent and [*self.parameters()]:
            raise ValueError(
                f"{type(self).__name__} has the parameters of another pair; give each pair a "
                "posterior of its own"
            )
        self.build_once(latent, lambda: self.make(latent))

    def make(self, latent: int) -> None:
        """Make its own parameters, where it has any."""

    @abstractmethod
    def forward(self, features: Tensor) -> TorchDistribution:
        """Return a distribution of batch shape (*batch) and event shape (latent,)."""

    @classmethod
    def covers(cls, support: Any) -> bool:
        """Say whether it is a family for latents of a support, a constraint on a coordinate."""
        if isinstance(support, constraints.interval) and isinstance(
            cls.support, constraints.interval
        ):
            own = cls.support.lower_bound, cls.support.upper_bound
            return own == (support.lower_bound, support.upper_bound)
        return support is cls.support
