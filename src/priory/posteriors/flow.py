"""Real latents: normal noise moved by a flow of the encoder's context, by zuko."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.flow import ConditionalFlow, zuko_flows
from priory.distributions.independent import IndependentNormal
from priory.lookup import positive
from priory.part import Shape
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited


class FlowPosterior(Posterior):
    """Normal noise of the encoder's means and scales, moved by affine maps that are nets.

    Each net reads noise and the encoder's context. Its last layer starts at zero, so that the maps
    start at the identity: features of zero then give the standard normal.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        context: Number of features that the nets read beside the noise.

    Raises:
        ValueError: A number isn't positive.
        ImportError: At the build, zuko isn't installed.
    """

    support = constraints.real
    automatic = False
    passes: ClassVar[int | None] = None  # of each map's inverse; as many as there are coordinates

    def __init__(
        self, transforms: int = 2, hidden: tuple[int, ...] = (64,), context: int = 16
    ) -> None:
        super().__init__()
        self.transforms = positive("transforms", transforms)
        self.hidden = tuple(positive("hidden", width) for width in hidden)
        self.context = positive("context", context)

    def outputs(self, latent: int) -> Shape:
        """Return the number of features: means, log standard deviations, and the context."""
        return (2 * latent + self.context,)

    def make(self, latent: int) -> None:
        """Make the maps' nets."""
        flows = zuko_flows(f"{self.name} posterior")
        options: dict[str, Any] = {"hidden_features": self.hidden, "activation": nn.ELU}
        order = torch.arange(latent)
        self.maps = nn.ModuleList()
        for turned in [bool(t % 2) for t in range(self.transforms)]:
            if latent > 1:  # one coordinate has no order
                options |= {"order": order.flip(0) if turned else order, "passes": self.passes}
            self.maps.append(flows.MaskedAutoregressiveTransform(latent, self.context, **options))
        for net in self.maps:
            last: Any = net.hyper[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2 latent + context)."""
        self.check_built()
        latent = int(self.built_for)
        loc, log_scale, context = features.split([latent, latent, self.context], -1)
        base = IndependentNormal(loc, limited(log_scale), 1)
        return ConditionalFlow(base, [f(context) for f in self.maps])


class IAFPosterior(FlowPosterior):
    r"""An inverse autoregressive flow: each coordinate is moved by the noise of those before it.

    .. math:: z_{t,i} = m_{ti}(z_{t-1,<i}, h) + s_{ti}(z_{t-1,<i}, h) \, z_{t-1,i}, \qquad
        z_0 \sim N(m(x), \mathrm{diag}(s^2(x))), \quad h = h(x)

    Every second map takes the coordinates in the other order. Draws, and their own densities, take
    one pass of each map's net; the density of any other latent, as `stl`, `dreg` and some metrics
    ask for, takes `latent` passes. Kingma et al., 2016, Improved variational inference with inverse
    autoregressive flow. Needs the extra `flows`.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        context: Number of features h that the nets read beside the noise.

    Example:
        >>> IAFPosterior(context=8).outputs(3)
        (14,)
    """

    name = "iaf"


class CouplingPosterior(FlowPosterior):
    r"""A flow of coupling layers: half of the coordinates move the others.

    .. math:: z_{t,a} = m_t(h) + s_t(h) \, z_{t-1,a}, \quad
        z_{t,b} = m_t(z_{t-1,a}, h) + s_t(z_{t-1,a}, h) \, z_{t-1,b}; \qquad
        z_0 \sim N(m(x), \mathrm{diag}(s^2(x))), \quad h = h(x)

    The halves a and b change places from map to map. Draws, and their own densities, take one pass
    of each map's net, any other density two. Dinh, Sohl-Dickstein and Bengio, 2017, Density
    estimation using Real NVP; Rezende and Mohamed, 2015, Variational inference with normalizing
    flows. Needs the extra `flows`.

    Args:
        transforms: Number of maps; from two on each half is moved by the other.
        hidden: Widths of the hidden layers of each map's net.
        context: Number of features h that the nets read beside the noise.

    Example:
        >>> CouplingPosterior(context=8).outputs(3)
        (14,)
    """

    name = "coupling"
    passes = 2
