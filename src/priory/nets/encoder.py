"""The encoder: a net and a posterior family, as one map from a datum to q(z | x)."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.padded import blanked
from priory.likelihoods import Likelihood
from priory.likelihoods.values import SMALL, starts_small
from priory.nets.base import Net
from priory.nets.layers import check_noise, noisy
from priory.nets.one_hot import with_planes
from priory.nets.steps import along, check_alone, check_sequences
from priory.nets.table import net_of
from priory.part import Part, Shape
from priory.posteriors import Posterior, posterior_for


class Width(Protocol):
    """What is given to a net beside a datum or a latent, and knows its width once it is built."""

    @property
    def width(self) -> int:
        """Number of coordinates."""


class Encoder(Part):
    r"""From a datum to the distribution q(z | x) of its latent.

    .. math:: q(z \mid x) = q(z; g(x))

    The family follows from the prior's support, unless one is asked for. The net reads data in the
    likelihood's units, and a table's odd values drawn in.

    Args:
        net: g, from a datum to the family's features; a net, any module, or a name.
        support: Of the latent: a torch constraint.
        point: Whether the latent is g(x) itself, as in an autoencoder.
        noise: Standard deviation of normal noise on the net's inputs in training.
        posterior: The family of q(z | x), or its name in `priory.posteriors.POSTERIORS`; "auto"
            takes the one of the support.

    Raises:
        ValueError: A name is unknown, the family does not cover the support, or the noise is
            negative.

    Example:
        >>> import torch
        >>> from priory.likelihoods import Normal
        >>> encoder, likelihood = Encoder("mlp", torch.distributions.constraints.real), Normal()
        >>> x = torch.randn(10, 3)
        >>> likelihood.build(x)
        >>> encoder.build(x, 2, likelihood)
        >>> encoder(x).event_shape
        torch.Size([2])
    """

    _kind = "encoder"

    def __init__(
        self,
        net: nn.Module | str,
        support: Any,
        *,
        point: bool = False,
        noise: float = 0.0,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__()
        self.net = net_of(net)
        self.support, self.point, self.noise = support, point, check_noise(noise)
        self.auto = posterior == "auto"
        if not self.auto:
            self.head = posterior_for(support, point, posterior)

    @property
    def posterior(self) -> Posterior | str:
        """The family of q(z | x); "auto" where it is the one of the support."""
        return "auto" if self.auto else self.head

    @property
    def constructor_argument(self) -> Net:
        """What a pair's constructor is given to make it, for a run's configuration."""
        return self.net

    def build(self, x: Tensor, latent: int, likelihood: Likelihood) -> None:
        """Make the parameters; a second call for the same sizes does nothing.

        Args:
            x: Training data, (n, *shape).
            latent: Number of latent coordinates.
            likelihood: Built for the data, in whose units the net reads them.

        Raises:
            ValueError: No family covers the support, or the net's size doesn't fit.
        """
        self.build_once((tuple(x.shape[1:]), latent), lambda: self.make(x, latent, likelihood))

    def make(self, x: Tensor, latent: int, likelihood: Likelihood) -> None:
        """Make the net, that of a table with small weights in its last layer."""
        # In a tuple a module is no submodule, so its parameters are not listed twice.
        self._likelihood = (likelihood,)
        if self.auto:
            self.head = posterior_for(self.support, self.point)
        self.head.build(latent)
        read = likelihood.inputs(tuple(x.shape[1:]))
        self.net.build(self.inputs(read), self.outputs(latent))
        if starts_small(x):
            self.net.temper(SMALL)

    def inputs(self, shape: Shape) -> Shape:
        """Return the shape of what the net reads, for that of a datum as nets read it."""
        return shape

    def outputs(self, latent: int) -> Shape:
        """Return the shape of the family's features."""
        return self.head.outputs(latent)

    def read(self, x: Tensor) -> Tensor:
        """Return what the net reads of data (*batch, *shape)."""
        self.check_built()
        return noisy(self._likelihood[0].read(x), self.noise if self.training else 0.0)

    def of_scaled(self, x: Tensor) -> TorchDistribution:
        """Return q(z | x) for data in the likelihood's units."""
        return self.head(self.net(self._likelihood[0].drawn_in(x)))

    def forward(self, x: Tensor, length: Tensor | None = None) -> Any:
        """Return q(z | x), batch shape (*batch), for data (*batch, *shape).

        Args:
            x: Data.
            length: Steps of each datum that is a sequence, (*batch), behind which nothing is read;
                None where all are full.

        Raises:
            RuntimeError: There are no parameters yet.
            ValueError: There are lengths, and the data are no sequences.
        """
        data = self.read(x)
        if length is not None:
            check_sequences(self.built_for[0])
            data = blanked(data, length, len(self.built_for[0]))
        return self.head(along(self.net, data, length))


class ConditionalEncoder(Encoder):
    r"""From a datum and a vector, such as a label or another latent, to q(z | x, given).

    The vector enters the net beside the datum, an image's convolutions as a plane for each
    coordinate.

    Args:
        net: From both to the family's features; a net, any module, or a name.
        support: Of the latent: a torch constraint.
        given: Number of the vector's coordinates, or what knows it once it is built.
        posterior: The family of q(z | x, given), or its name; "auto" takes the one of the support.
    """

    def __init__(
        self,
        net: nn.Module | str,
        support: Any,
        given: Width | int,
        *,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(net, support, posterior=posterior)
        self._given = (given,)

    @property
    def width(self) -> int:
        """Number of the vector's coordinates."""
        given = self._given[0]
        return given if isinstance(given, int) else given.width

    def inputs(self, shape: Shape) -> Shape:
        """Return the shape of a datum with the vector."""
        check_alone(self.net, "a vector")
        self.images = len(shape) == 3 and not self.net.flat
        self.dims = len(shape)
        width = self.width
        return (shape[0] + width, *shape[1:]) if self.images else (prod(shape) + width,)

    def forward(self, x: Tensor, given: Tensor) -> TorchDistribution:  # type: ignore[override]
        """Return q(z | x, given), batch shape (*batch).

        Args:
            x: Data, (*batch, *shape).
            given: Vectors, (*batch, width).

        Raises:
            RuntimeError: There are no parameters yet.
        """
        data = self.read(x)
        if self.images:
            return self.head(self.net(with_planes(data, given)))
        flat = data.flatten(x.dim() - self.dims) if self.dims else data.unsqueeze(-1)
        return self.head(self.net.beside(flat, given))
