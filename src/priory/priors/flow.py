"""A normalising flow as a prior, by zuko."""

import copy
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from priory.distributions.flow import zuko_flows
from priory.lookup import named, positive
from priory.priors.base import Encode, Prior

KINDS = {"iaf": "MAF", "maf": "MAF", "nice": "NICE", "nsf": "NSF", "realnvp": "RealNVP"}


class FlowDistribution(TorchDistribution):
    """A zuko flow's distribution in Pyro's terms.

    Args:
        flow: The distribution that the flow returns, of batch shape () and event shape (latent,).
        validate_args: Whether to check values; the global default if None.
    """

    support = constraints.real_vector
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, flow: Distribution, validate_args: bool | None = None) -> None:
        self.flow = flow
        super().__init__(Size(), flow.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "FlowDistribution":
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of latents (..., latent), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        density: Tensor = self.flow.log_prob(value)
        return density.expand(torch.broadcast_shapes(density.shape, self._batch_shape))

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients."""
        draws: Tensor = self.flow.rsample(self._extended_shape(sample_shape)[:-1])
        return draws


class Flow(Prior):
    r"""A normalising flow from the standard normal.

    .. math:: p(z) = N(f(z); 0, I) \, |\det \partial f / \partial z|

    Rezende and Mohamed, 2015, Variational inference with normalizing flows; Durkan et al., 2019,
    Neural spline flows. Needs the extra `flows`.

    Args:
        transforms: Number of transformations in the flow.
        hidden: Widths of the hidden layers in each of them.
        kind: "nsf", "maf", "iaf", "nice" or "realnvp". The autoregressive "nsf" and "maf" score in
            one pass and draw in `latent` passes; "iaf", the inverse of "maf", draws in one and
            scores in `latent`; the other two do both in one.

    Raises:
        ValueError: There is no transformation, or no such kind.
        ImportError: zuko isn't installed.
    """

    name = "flow"

    def __init__(
        self, transforms: int = 3, hidden: tuple[int, ...] = (64, 64), kind: str = "nsf"
    ) -> None:
        super().__init__()
        named("kind of flow", kind, KINDS)
        self.transforms = positive("transforms", transforms)
        self.hidden = tuple(hidden)
        self.kind = kind

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the flow's nets."""
        if latent < 2 and self.kind in ("nice", "realnvp"):
            raise ValueError(f"kind {self.kind!r} couples two or more latents, got 1: use 'nsf'")
        flows = zuko_flows("Flow prior")
        flow = getattr(flows, KINDS[self.kind])
        self.net: nn.Module = flow(
            features=latent, transforms=self.transforms, hidden_features=self.hidden
        )
        if self.kind == "iaf":
            self.net = flows.Flow(self.net.transform.inv, self.net.base)

    def distribution(self) -> TorchDistribution:
        """Return the flow's distribution."""
        return FlowDistribution(self.net())
