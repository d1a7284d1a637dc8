"""Real latents: a mixture of diagonal normals, every component of which enters the bound."""

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from priory.distributions.strata import StratifiedMixture
from priory.lookup import at_least
from priory.part import Shape
from priory.posteriors.base import Posterior
from priory.posteriors.normal import limited


class MixturePosterior(Posterior):
    r"""A mixture of diagonal normals, so that one datum may have several explanations.

    .. math:: q(z \mid x) = \sum_c w_c(x) \, N(z; m_c(x), \mathrm{diag}(s_c^2(x)))

    `ELBO`, `IWAE` and `Renyi` draw from each component K times, and weigh the draws by the weights:

    .. math:: \sum_c w_c \, E_{z \sim N_c}\Bigl[\log \frac{p(x, z)}{q(z \mid x)}\Bigr], \qquad
        E \log \frac 1K \sum_k \sum_c w_c \frac{p(x, z_{kc})}{q(z_{kc} \mid x)}

    Both are lower bounds on log p(x), and their gradients unbiased by the weights too. Nalisnick,
    Hertel and Smyth, 2016, Approximate inference for deep latent Gaussian mixtures; Roeder, Wu and
    Duvenaud, 2017, Sticking the landing; Morningstar et al., 2021, Automatic differentiation
    variational inference with mixtures. A single draw has no gradient by the weights: objectives
    that would follow one refuse it.

    Features are each component's log weight, means and log standard deviations. Features of zero
    give equal components, all of them the standard normal.

    Args:
        components: Number of components.

    Raises:
        ValueError: There are fewer than two.

    Example:
        >>> posterior = MixturePosterior(components=3)
        >>> posterior.outputs(2)
        (3, 5)
    """

    name = "mixture"
    support = constraints.real
    automatic = False

    def __init__(self, components: int = 3) -> None:
        super().__init__()
        self.components = at_least(2, "components", components)

    def outputs(self, latent: int) -> Shape:
        """Return the shape of the features: those of each component."""
        return self.components, 1 + 2 * latent

    def forward(self, features: Tensor) -> TorchDistribution:
        """Return the distribution for features (*batch, components, 1 + 2 latent)."""
        logits, rest = features[..., 0], features[..., 1:]
        loc, log_scale = rest.chunk(2, -1)
        return StratifiedMixture(logits, loc, limited(log_scale))
