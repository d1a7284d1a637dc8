"""A mixture of diagonal normals for each datum, drawn from one component or from all in turn."""

import copy
import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.categorical import perturbed


class StratifiedMixture(TorchDistribution):
    r"""A mixture of diagonal normals, of which each component can be a stratum of the draws.

    .. math:: q(z) = \sum_c w_c \, N(z; m_c, \mathrm{diag}(s_c^2)), \qquad
        E_q[f(z)] = \sum_c w_c \, E_{\epsilon \sim N(0, I)}[f(m_c + s_c \epsilon)]

    A draw of the mixture, component and all, is a constant: no path leads from it to the weights. A
    draw `within` a component has the gradient of its path, and where every component is drawn, each
    with its weight, so has the expectation, by weights as by means and scales. Roeder, Wu and
    Duvenaud, 2017, Sticking the landing; Morningstar et al., 2021, Automatic differentiation
    variational inference with mixtures.

    Args:
        logits: Unnormalised log weights, (*batch, components).
        loc: Means m, (*batch, components, latent).
        log_scale: Log standard deviations, (*batch, components, latent).
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> q = StratifiedMixture(torch.zeros(2), torch.tensor([[-3.0], [3.0]]), torch.zeros(2, 1))
        >>> q.mean, q.variance
        (tensor([0.]), tensor([10.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real,
        "loc": constraints.real,
        "log_scale": constraints.real,
    }
    support = constraints.real_vector
    has_rsample = False
    component: Tensor | None = None

    def __init__(
        self, logits: Tensor, loc: Tensor, log_scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.logits, self.loc, self.log_scale = logits, loc, log_scale
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    @property
    def strata(self) -> int:
        """Number of components."""
        return self.logits.shape[-1]

    def expand(self, batch_shape: Size, _instance: Any = None) -> "StratifiedMixture":
        """Return the same distribution for a larger batch, sharing the parameters."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def within(self, component: Tensor) -> "StratifiedMixture":
        """Return the mixture with its draws taken from given components.

        Its density stays the mixture's; its draws are reparameterised.

        Args:
            component: Integers from 0, that broadcast with (*batch).
        """
        new = copy.copy(self)
        new.component, new.has_rsample = component.to(self.loc.device), True
        return new

    @property
    def log_share(self) -> Tensor:
        """Log weight of the component that is drawn from, (*batch), in nats."""
        chosen = self._chosen(Size()).unsqueeze(-1)
        weights = self.logits.log_softmax(-1).expand(*chosen.shape[:-1], -1)
        return weights.take_along_dim(chosen, -1).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the mixture's log density of latents (..., latent), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        noise = (value.unsqueeze(-2) - self.loc) * torch.exp(-self.log_scale)
        size = 0.5 * math.log(2 * math.pi) * self._event_shape.numel()
        each = -0.5 * noise.square().sum(-1) - self.log_scale.sum(-1) - size
        density = (self.logits.log_softmax(-1) + each).logsumexp(-1)
        return density.expand(torch.broadcast_shapes(self._batch_shape, density.shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw latents, without gradients: a component by its weight, or the one that is given."""
        with torch.no_grad():
            return self._draw(sample_shape)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw latents with the gradient of the component's own path.

        Args:
            sample_shape: Of the draws, before the batch.

        Raises:
            NotImplementedError: The component is drawn, so that no path leads to its weight.
        """
        if self.component is None:
            raise NotImplementedError(
                "a draw of a mixture has no path to the weights: draw within each component"
            )
        return self._draw(sample_shape)

    def _draw(self, sample_shape: Size) -> Tensor:
        chosen = self._chosen(sample_shape)[..., None, None]
        shape = (*chosen.shape[:-2], *self.loc.shape[-2:])
        loc, log_scale = (
            part.expand(shape).take_along_dim(chosen, -2).squeeze(-2)
            for part in (self.loc, self.log_scale)
        )
        return loc + log_scale.exp() * torch.randn_like(loc)

    def _chosen(self, sample_shape: Size) -> Tensor:
        """Return the component of each draw, (*sample_shape, *batch)."""
        shape = Size(sample_shape) + self._batch_shape
        if self.component is not None:
            return self.component.expand(shape)
        with torch.no_grad():
            return perturbed(self.logits, Size((*shape, self.strata))).argmax(-1)

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch, latent)."""
        weights = self.logits.softmax(-1).unsqueeze(-1)
        return (weights * self.loc).sum(-2).expand(self._batch_shape + self._event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, (*batch, latent)."""
        weights = self.logits.softmax(-1).unsqueeze(-1)
        centre = (weights * self.loc).sum(-2, keepdim=True)
        spread = (2 * self.log_scale).exp() + (self.loc - centre).square()
        return (weights * spread).sum(-2).expand(self._batch_shape + self._event_shape)
