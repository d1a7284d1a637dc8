"""A layer of latents, given a layer above or below it."""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.nets.base import Net
from priory.nets.table import net_of
from priory.part import Part
from priory.posteriors import Posterior, posterior_for


class StochasticLayer(Part):
    r"""From a vector to the distribution of a layer's latent.

    .. math:: p(z \mid h) = N(z; \mu(h), \mathrm{diag}(\sigma^2(h)))

    The net gives means and log standard deviations, as an encoder's does; another support has
    another family. What reads the layer's latent sees its coordinates as they are.

    Args:
        net: From the vector to the family's features; a net, any module, or a name.
        support: Of the latent: a torch constraint.
        posterior: The family, or its name in `priory.posteriors.POSTERIORS`; "auto" takes the one
            of the support.

    Raises:
        ValueError: A name is unknown, or the family does not cover the support.

    Example:
        >>> import torch
        >>> layer = StochasticLayer("mlp")
        >>> layer.build(5, 3)
        >>> layer(torch.zeros(7, 5)).event_shape, layer.features
        (torch.Size([3]), 3)
    """

    _kind = "layer"

    def __init__(
        self,
        net: nn.Module | str,
        support: Any = constraints.real,
        *,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__()
        self.net = net_of(net)
        self.support, self.auto = support, posterior == "auto"
        if not self.auto:
            self.head = posterior_for(support, posterior=posterior)

    @property
    def constructor_argument(self) -> Net:
        """What a pair's constructor is given to make it, for a run's configuration."""
        return self.net

    def build(self, inputs: int, latent: int) -> None:
        """Make the parameters; a second call for the same sizes does nothing.

        Args:
            inputs: Number of coordinates of the vector.
            latent: Number of latent coordinates.

        Raises:
            ValueError: No family covers the support, or the net's size doesn't fit.
        """
        self.build_once((inputs, latent), lambda: self.make(inputs, latent))

    def make(self, inputs: int, latent: int) -> None:
        """Make the net."""
        if self.auto:
            self.head = posterior_for(self.support)
        self.head.build(latent)
        self.net.build((inputs,), self.head.outputs(latent))

    @property
    def features(self) -> int:
        """How many numbers `embed` gives for one latent; 0 before the layer is built."""
        return 0 if self.built_for is None else int(self.built_for[1])

    def embed(self, z: Tensor) -> Tensor:
        """Return latents (*batch, latent) as the layer below sees them: as they are."""
        return z

    def forward(self, h: Tensor) -> TorchDistribution:
        """Return p(z | h), batch shape (*batch), for vectors (*batch, inputs).

        Raises:
            RuntimeError: There are no parameters yet.
        """
        self.check_built()
        return self.head(self.net(h))
