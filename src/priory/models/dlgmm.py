"""The deep latent Gaussian mixture model: a mixture for each datum, whose weights are a latent."""

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.beta import InnerBeta
from priory.distributions.strata import StratifiedMixture
from priory.likelihoods import Likelihood
from priory.lookup import at_least
from priory.models.pair import Pair, build_prior
from priory.nets import Decoder, Encoder
from priory.part import Shape
from priory.priors import GaussianMixture


class ComponentEncoder(Encoder):
    r"""From a datum to K normals over its latent, batch shape (*batch, K).

    .. math:: q(z \mid x, c) = N(z; m_c(x), \mathrm{diag}(s_c^2(x)))

    Args:
        net: From a datum to means and log standard deviations; a net, any module, or a name.
        components: K.
    """

    def __init__(self, net: nn.Module | str, components: int) -> None:
        super().__init__(net, constraints.real)
        self.components = at_least(2, "components", components)

    def outputs(self, latent: int) -> Shape:
        """Return the shape of the features: those of each component."""
        return (self.components, *self.head.outputs(latent))


class DLGMM(Pair):
    r"""A variational autoencoder whose posterior is a mixture with random weights.

    .. math:: v_k \sim \mathrm{Beta}(1, K - k), \quad
        z \sim \sum_k \pi_k(v) \, N(m_k, \mathrm{diag}(s_k^2)), \quad x \sim p(x \mid f(z)); \qquad
        v_k \sim \mathrm{Kumaraswamy}(h_k(x)), \quad
        z \sim \sum_k \pi_k(v) \, N(m_k(x), \mathrm{diag}(s_k^2(x)))

    Nalisnick, Hertel and Smyth, 2016, Approximate inference for deep latent Gaussian mixtures. The
    K - 1 sticks v make the weights, :math:`\pi_k = v_k \prod_{j < k} (1 - v_j)`, which are uniform
    on the simplex in the model. Prior and posterior share them, so that a component of the
    posterior is one of the prior's. `ELBO`, `IWAE` and `Renyi` draw z from each component of the
    posterior with the same sticks, and weigh the draws by the weights:

    .. math:: E_{q(v \mid x)} \sum_k \pi_k(v) \, E_{z \sim N_k} \log
        \frac{p(x \mid z) \, p(z \mid v) \, p(v)}{q(z \mid x, v) \, q(v \mid x)} \le \log p(x)

    Args:
        components: K, of which there are two or more.
        encoder: From a datum to each component's mean and log standard deviation; a net, any
            module, or a name.
        weigher: h, from a datum to the features of the sticks; likewise.
        decoder: f, from z to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of coordinates of z.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = DLGMM(components=3, latent=2)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.mixture(torch.zeros(5, 1, 8, 8), torch.full((5, 2), 0.5)).mean.shape
        torch.Size([5, 2])
    """

    name = "dlgmm"

    shapes: Tensor

    def __init__(
        self,
        components: int = 3,
        encoder: nn.Module | str = "mlp",
        weigher: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
    ) -> None:
        super().__init__(latent)
        self.components = at_least(2, "components", components)
        self.prior = GaussianMixture(components, equal=True)
        self.encoder = ComponentEncoder(encoder, components)
        self.weigher = Encoder(weigher, constraints.unit_interval)
        self.decoder = Decoder(decoder, self.prior, likelihood)
        left = torch.arange(components - 1, 0, -1.0)
        self.register_buffer("shapes", torch.stack([torch.ones_like(left), left]), persistent=False)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters for data (n, *shape)."""
        likelihood = self.decoder.choose(x)
        build_prior(self.prior, self.latent, x, likelihood, None)
        self.encoder.build(x, self.latent, likelihood)
        self.weigher.build(x, self.components - 1, likelihood)
        self.decoder.build(x)

    def mixture(self, x: Tensor, v: Tensor) -> StratifiedMixture:
        """Return q(z | x, v), batch shape (*batch), for data and sticks (*batch, K - 1)."""
        each = self.encoder(x)
        return StratifiedMixture(log_shares(v), each.mean, each.stddev.log())

    def components_of(self, v: Tensor) -> TorchDistribution:
        """Return p(z | v), batch shape (*batch), for sticks (*batch, K - 1)."""
        return StratifiedMixture(log_shares(v), self.prior.loc, self.prior.log_scale)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            v = pyro.sample("v", InnerBeta(*self.shapes).to_event(1))
            z = pyro.sample("z", self.components_of(v))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            v = pyro.sample("v", self.weigher(x))
            pyro.sample("z", self.mixture(x, v))


def log_shares(v: Tensor) -> Tensor:
    """Return the logs of the weights of sticks (*batch, K - 1), (*batch, K)."""
    info = torch.finfo(v.dtype)
    v = v.clamp(info.tiny, 1 - info.eps)
    left = torch.log1p(-v).cumsum(-1)
    before = torch.cat([torch.zeros_like(left[..., :1]), left[..., :-1]], -1)
    return torch.cat([v.log() + before, left[..., -1:]], -1)
