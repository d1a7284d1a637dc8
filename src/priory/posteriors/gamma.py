"""Latents in the unit interval: independent ratios of Gamma variables."""

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.beta import InnerBeta
from priory.posteriors.base import Posterior
from priory.posteriors.kumaraswamy import shapes_from


class GammaPosterior(Posterior):
    r"""Independent coordinates in the unit interval, each a Gamma variable's share of two.

    .. math:: v = \frac{g}{g + h}, \quad g \sim \mathrm{Gamma}(a, 1), \quad
        h \sim \mathrm{Gamma}(b, 1), \qquad v \sim \mathrm{Beta}(a, b)

    The Gamma posterior of Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders, whose
    gradients are approximate; here they are the implicit ones of Figurnov, Mohamed and Mnih, 2018,
    Implicit reparameterization gradients, and the divergence from a Beta prior is in closed form.
    Features are the logarithms of both shapes, from Beta(1, 5) on. Shapes are between 0.1, below
    which Gamma variables underflow in single precision, and about 10^6.
    """

    name = "gamma"
    params = 2
    support = constraints.unit_interval
    automatic = False

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, 2, latent)."""
        a, b = shapes_from(features, least=0.1)
        return InnerBeta(a, b).to_event(1)
