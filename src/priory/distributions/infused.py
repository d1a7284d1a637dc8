"""States of a chain into which numbers of a datum are infused."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.special import ndtr

from priory.distributions.independent import Factorised, IndependentNormal
from priory.distributions.pixels import IndependentBernoulli


class Infused(Factorised):
    r"""Independent numbers, each by itself the datum's, or else drawn as the chain would draw it.

    .. math:: q(z) = \prod_i (1 - a) \, p(z_i) + a \, \delta_w(z_i - x_i)

    where :math:`\delta_w` is a normal density of standard deviation w, or of bits the point mass
    itself. Bordes, Honari and Vincent, 2017, Learning to generate samples from noise through
    infusion training. Draws of real numbers have the mixture's own gradient, by its distribution
    function F:

    .. math:: \frac{\partial z_i}{\partial \theta} =
        - \frac{1}{q(z_i)} \frac{\partial F(z_i)}{\partial \theta}

    Figurnov, Mohamed and Mnih, 2018, Implicit reparameterization gradients.

    Args:
        p: The chain's distribution, (*batch, *event).
        x: The datum in the states' units, broadcast with it.
        share: a, broadcast with (*batch, *event).
        width: w; bits have none.

    Example:
        >>> p = IndependentBernoulli(torch.zeros(2), 1)
        >>> Infused(p, torch.ones(2), torch.tensor(0.5), 0.0).log_prob(torch.ones(2)).exp()
        tensor(0.5625)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, p: IndependentNormal | IndependentBernoulli, x: Tensor, share: Tensor, width: float
    ) -> None:
        self.p, self.x, self.share, self.width = p, x, share, width
        self.has_rsample = isinstance(p, IndependentNormal)
        dims = len(p.event_shape)
        shape = torch.broadcast_shapes(p.batch_shape + p.event_shape, x.shape, share.shape)
        super().__init__(shape, dims, validate_args=False)

    @property
    def support(self) -> Any:
        """Where the chain's own states lie."""
        return self.p.support

    def each(self, value: Tensor) -> Tensor:
        """Return the log density of each number, (..., *event)."""
        own = self.p.apart().density(value.unsqueeze(-1))
        if self.has_rsample:
            noise = (value - self.x) / self.width
            infused = -0.5 * noise.square() - math.log(self.width * math.sqrt(2 * math.pi))
        else:
            infused = torch.where(value == self.x, 0.0, -math.inf)
        return torch.logaddexp(torch.log1p(-self.share) + own, self.share.log() + infused)

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        return self.each(value).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw without gradients."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            own = self.p.expand(self._batch_shape).sample(Size(sample_shape))
            infused = self.x.expand(shape)
            if self.has_rsample:
                infused = infused + self.width * torch.randn_like(own)
            return torch.where(torch.rand_like(own) < self.share, infused, own)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw real numbers with gradients.

        Raises:
            NotImplementedError: They are bits, whose draws have none.
        """
        if not isinstance(self.p, IndependentNormal):
            raise NotImplementedError("a draw of bits has no gradient")
        z = self.sample(sample_shape)
        if not torch.is_grad_enabled():
            return z
        own = ndtr((z - self.p.loc) * torch.exp(-self.p.log_scale))
        below = (1 - self.share) * own + self.share * ndtr((z - self.x) / self.width)
        return z - (below - below.detach()) * torch.exp(-self.each(z).detach())


def infused(p: TorchDistribution, x: Tensor, share: Tensor, width: float) -> Infused:
    """Return a chain's distribution with numbers of a datum infused; see `Infused`."""
    assert isinstance(p, IndependentNormal | IndependentBernoulli)  # noqa: S101
    return Infused(p, x, share, width)
