"""InfoGAN: a generator, some of whose latents can be read off its dreams."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.models.labels import beside
from priory.models.opening import is_built, plate
from priory.models.parts import build_decoder, build_encoder, prior_of
from priory.nets import Delta
from priory.nets.base import Shape
from priory.nets.categorical import OneHot, StraightThroughCode
from priory.nets.layers import check_noise, noisy
from priory.nets.table import net_of
from priory.priors import Prior

_LEAST = 0.02  # standard deviation of q(u given x), which would else fall to 0 and its bound rise


class InfoGAN(nn.Module):
    r"""A generator of a categorical code, continuous codes and noise; the guide reads the codes.

    .. math:: c \sim \mathrm{Cat}(1/K), \quad u \sim U(-1, 1), \quad z \sim p(z), \quad
        x = f(c, u, z); \qquad c \sim q(c \mid x), \quad u \sim N(m(x), s(x)), \quad z \sim p(z)

    Chen, Duan, Houthooft, Schulman, Sutskever and Abbeel, 2016, InfoGAN: interpretable
    representation learning by information maximizing generative adversarial nets. `Sleep` of `c, u`
    beside the game on `x` holds the codes' mutual information with the dream up. There q shares its
    body with the critic, which keeps it to what makes a datum real; here it has a net of its own,
    as the critic is no part of a pair, and noise on what it reads keeps it to what can be seen:
    without, a code written in a few faint pixels tells as much as a digit's class. z is not
    inferred: the guide draws it from its prior.

    Args:
        prior: Of the noise; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to the codes' laws; a net, any module, or a name.
        generator: From codes and noise to a datum; likewise.
        latent: Number of coordinates of the noise.
        codes: K, the number of values of c.
        continuous: Number of coordinates of u; without any there is no u.
        noise: Standard deviation of normal noise on the encoder's inputs in training.

    Raises:
        ValueError: A number is out of range, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = InfoGAN(codes=10, latent=4)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.posterior(torch.zeros(3, 1, 8, 8))[1].event_shape
        torch.Size([2])
    """

    uniform: Tensor

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        generator: nn.Module | str = "mlp",
        latent: int = 16,
        codes: int = 10,
        continuous: int = 2,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (("latent", latent, 1), ("codes", codes, 2), ("continuous", continuous, 0))
        for name, number, least in sizes:
            if number < least:
                raise ValueError(f"{name} must be {least} or more, got {number}")
        self.prior = prior_of(prior)
        self.encoder, self.generator = net_of(encoder), net_of(generator)
        self.latent = latent
        self.codes = codes
        self.continuous = continuous
        self.noise = check_noise(noise)
        self.likelihood = Delta()
        self.shape: Shape | None = None

    def build(self, x: Tensor) -> None:
        """Make the parameters for data like `x`; a second call does nothing.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.

        Raises:
            ValueError: A net's size doesn't fit, or the pair is built for another shape.
        """
        if is_built(self, x):
            return
        shape = tuple(x.shape[1:])
        self.likelihood.build(x)
        self.prior.build(self.latent, x)
        build_encoder(self.encoder, shape, (self.codes + 2 * self.continuous,), x)
        inputs = self.codes + self.continuous + self.prior.features
        build_decoder(self.generator, inputs, self.likelihood, x)
        self.register_buffer("uniform", torch.zeros(self.codes), persistent=False)
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    def posterior(self, x: Tensor) -> tuple[TorchDistribution, TorchDistribution]:
        """Return q(c given x) and q(u given x), batch shape (*batch), for data (*batch, *shape)."""
        k = self.continuous
        x = noisy(self.likelihood.read(x), self.noise if self.training else 0.0)
        logits, mean, spread = self.encoder(x).split([self.codes, k, k], -1)
        scale = _LEAST + (1 - _LEAST) * spread.sigmoid()
        return StraightThroughCode(logits=logits), dist.Normal(mean, scale).to_event(1)

    def likelihood_of(self, c: Tensor, u: Tensor, z: Tensor) -> TorchDistribution:
        """Return the point mass at f(c, u, z), batch shape (*batch), for latents (*batch, ...)."""
        return self.likelihood(self.generator(beside(beside(self.prior.embed(z), u), c)))

    def model(self, x: Tensor) -> None:
        """Declare p(x, c, u, z) for a batch of data (batch, *shape)."""
        with plate("infogan", self, x):
            c = pyro.sample("c", OneHot(logits=self.uniform))
            bound = self.uniform.new_ones(self.continuous)
            u = bound
            if self.continuous:
                u = pyro.sample("u", dist.Uniform(-bound, bound).to_event(1))
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(c, u, z), obs=x, infer=own)

    def guide(self, x: Tensor) -> None:
        """Declare q(c, u given x) for a batch of data (batch, *shape), and p(z)."""
        with plate("infogan", self, x):
            code, continuous = self.posterior(x)
            pyro.sample("c", code)
            if self.continuous:
                pyro.sample("u", continuous)
            pyro.sample("z", self.prior())
