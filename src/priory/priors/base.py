"""What every prior is: a distribution over one datum's latent, with its parameters."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.lookup import positive
from priory.part import Part

Encode = Callable[[Tensor], TorchDistribution]


class Prior(Part):
    """A distribution over a latent of shape (latent,), exchangeable with every other prior.

    `support` says which posterior family fits; `embed` is what a decoder sees of a latent.

    Attributes:
        data_units: The likelihood in whose units `build` is given data, where these are a table;
            in a tuple, so that it is no part of the prior.
    """

    name: ClassVar[str]
    _kind = "prior"
    support: Any = constraints.real
    data_units: tuple[Any, ...] = ()

    @property
    def latent(self) -> int:
        """Number of latent coordinates, 0 before the prior is built."""
        return self.built_for or 0

    def build(self, latent: int, x: Tensor, encode: Encode | None = None) -> None:
        """Make the parameters; a second call with the same size does nothing.

        Args:
            latent: Number of latent coordinates.
            x: Training data, (n, *shape), for the parameters' starting values.
            encode: The pair's amortised posterior, where the pair has one: a bound method or a
                module, not a lambda, so that a copy of the pair keeps to its own encoder.

        Raises:
            ValueError: The size isn't positive, or the prior is already built for another.
        """
        latent = positive("latent", latent)
        self.build_once(latent, lambda: self.make(latent, x, encode))

    @abstractmethod
    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:
        """Make the parameters."""

    @abstractmethod
    def distribution(self) -> TorchDistribution:
        """Return the distribution over one latent: batch shape (), event shape (latent,)."""

    def log_share(self) -> Tensor | None:
        """Return a training row's share of the log density of the prior's own parameters.

        Of shape (), in nats; None where these have no distribution. The term `MAP` adds it.
        """
        return None

    def set_rows(self, rows: int, x: Tensor, numbers: Tensor | None) -> None:
        """Take notice of the training rows, of which `build` may see a part.

        Args:
            rows: Number of training rows.
            x: Those that the pair is built from, (n, *shape).
            numbers: Their numbers in the batches' column `index`, (n,); None where batches have no
                such column.
        """

    @property
    def features(self) -> int:
        """How many numbers `embed` gives for one latent."""
        return self.latent

    def embed(self, z: Tensor) -> Tensor:
        """Map latents (*batch, latent) to what the decoder sees, (*batch, features)."""
        return z

    def forward(self) -> TorchDistribution:
        """Return the distribution over one latent: batch shape (), event shape (latent,).

        Raises:
            RuntimeError: The prior is not built.
        """
        self.check_built()
        return self.distribution()
