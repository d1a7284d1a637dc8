"""One of several normals, chosen by a one-hot code."""

from __future__ import annotations

from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.independent import IndependentNormal


class Chosen(TorchDistribution):
    r"""The normal of several that a one-hot code chooses.

    .. math:: \log p(z \mid c) = \sum_k c_k \log N(z; m_k, \mathrm{diag}(s_k^2))

    The log density is linear in c: what it is at one-hot vectors, and its slope there.

    Args:
        c: Codes, (*batch, K).
        components: The normals, batch shape (*batch, K).
        validate_args: Whether to check values; the global default if None.

    Example:
        >>> normals = IndependentNormal(torch.tensor([[0.0], [5.0]]), torch.zeros(()), 1)
        >>> Chosen(torch.eye(2)[1], normals).mean
        tensor([5.])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, c: Tensor, components: IndependentNormal, validate_args: bool | None = None
    ) -> None:
        lead = (components.mean[..., 0] * c).shape[:-1]
        self.c, self.components = c.expand(*lead, -1), components
        super().__init__(lead, components.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Chosen:
        """Return the same distribution for a larger batch."""
        return Chosen(self.c.expand(*batch_shape, -1), self.components)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of latents (*batch, latent), in nats, (*batch)."""
        return (self.c * self.components.log_prob(value.unsqueeze(-2))).sum(-1)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw latents with gradients, (*sample_shape, *batch, latent)."""
        return self._one().expand(self.batch_shape).rsample(sample_shape)

    @property
    def mean(self) -> Tensor:
        """The chosen means, (*batch, latent)."""
        return self._one().mean

    @property
    def variance(self) -> Tensor:
        """The chosen variances, (*batch, latent)."""
        return self._one().variance

    def _one(self) -> IndependentNormal:
        c = self.c.unsqueeze(-1)
        loc, log_scale = self.components.loc, self.components.log_scale
        return IndependentNormal((c * loc).sum(-2), (c * log_scale).sum(-2), 1)
