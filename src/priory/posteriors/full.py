"""Real latents: a normal distribution with all its covariances."""

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from priory.distributions.independent import IndependentNormal
from priory.part import Shape
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited


class FullPosterior(Posterior):
    r"""A normal distribution whose coordinates may be correlated, by a Cholesky factor.

    .. math:: q(z \mid x) = N(z; m(x), C(x) C(x)^T), \qquad
        C = \mathrm{diag}(s) (I + \tfrac1d L)

    Features are the means, the logarithms of s, within the bounds of the diagonal family's, and the
    strictly lower L, row by row, in units of the row's s and of the number d of coordinates: as
    they are, a new net's many small correlations add up to a start far from the prior. Features of
    zero give the standard normal. Rezende, Mohamed and Wierstra, 2014, Stochastic backpropagation
    and approximate inference in deep generative models; Kingma and Welling, 2019, An introduction
    to variational autoencoders.

    Example:
        >>> posterior = FullPosterior()
        >>> posterior.build(3)
        >>> posterior(torch.zeros(posterior.outputs(3))).variance
        tensor([1., 1., 1.])
    """

    name = "full"
    support = constraints.real
    automatic = False
    place: Tensor

    def outputs(self, latent: int) -> Shape:
        """Return the number of features: means, and the factor's diagonal and lower part."""
        return (latent + latent * (latent + 1) // 2,)

    def make(self, latent: int) -> None:
        """Make the places of the factor's elements among a zero, ones and the lower part."""
        place = torch.diag(torch.arange(1, latent + 1))
        below = torch.tril_indices(latent, latent, -1)
        place[below[0], below[1]] = torch.arange(below.shape[1]) + latent + 1
        self.register_buffer("place", place, persistent=False)

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, latent + latent (latent + 1) / 2)."""
        self.check_built()
        latent = len(self.place)
        loc, log_diagonal, below = features.split(
            [latent, latent, features.shape[-1] - 2 * latent], -1
        )
        parts = [torch.zeros_like(loc[..., :1]), torch.ones_like(loc), below / latent]
        rows = torch.cat(parts, -1)[..., self.place]
        scale = limited(log_diagonal).exp().unsqueeze(-1)
        return MultivariateNormal(loc, scale_tril=scale * rows)


@register_kl(torch.distributions.MultivariateNormal, IndependentNormal)  # type: ignore[untyped-decorator]
def _kl_to_independent(p: torch.distributions.MultivariateNormal, q: IndependentNormal) -> Tensor:
    factor, precision = p._unbroadcasted_scale_tril, torch.exp(-2 * q.log_scale)
    log_ratio = q.log_scale - factor.diagonal(dim1=-2, dim2=-1).log()
    second = factor.square().sum(-1) + (p.loc - q.loc).square()
    divergence = (0.5 * (second * precision - 1) + log_ratio).sum(-1)
    return divergence.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
