"""InfoGAN: a generator, some of whose latents can be read off its samples."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.categorical import OneHot, StraightThroughCode
from priory.likelihoods import Delta
from priory.lookup import at_least, lookup
from priory.models.pair import Pair
from priory.nets import Decoder, Encoder
from priory.part import Shape
from priory.priors import PRIORS, Prior

MIN_STD = 0.02  # of q(u | x), which else collapses while its bound diverges


class CodesEncoder(Encoder):
    """From a datum to q(c | x) and q(u | x), of one net.

    Args:
        net: From a datum to the features of both; a net, any module, or a name.
        codes: Number of the values of c.
        continuous: Number of coordinates of u.
        noise: Standard deviation of normal noise on the net's inputs in training.
    """

    def __init__(
        self, net: nn.Module | str, codes: int, continuous: int, *, noise: float = 0.0
    ) -> None:
        super().__init__(net, dist.constraints.real, noise=noise)
        self.codes, self.continuous = codes, continuous

    def outputs(self, latent: int) -> Shape:  # noqa: ARG002
        """Return the number of features: logits, means and scales."""
        return (self.codes + 2 * self.continuous,)

    def forward(  # type: ignore[override]
        self, x: Tensor
    ) -> tuple[TorchDistribution, TorchDistribution]:
        """Return q(c | x) and q(u | x), batch shape (*batch), for data (*batch, *shape)."""
        sizes = [self.codes, self.continuous, self.continuous]
        logits, mean, spread = self.net(self.read(x)).split(sizes, -1)
        scale = MIN_STD + (1 - MIN_STD) * spread.sigmoid()
        return StraightThroughCode(logits=logits), dist.Normal(mean, scale).to_event(1)


class InfoGAN(Pair):
    r"""A generator of a categorical code, continuous codes and noise; the guide reads the codes.

    .. math:: c \sim \mathrm{Cat}(1/K), \quad u \sim U(-1, 1), \quad z \sim p(z), \quad
        x = f(c, u, z); \qquad c \sim q(c \mid x), \quad u \sim N(m(x), s(x)), \quad z \sim p(z)

    Chen, Duan, Houthooft, Schulman, Sutskever and Abbeel, 2016, InfoGAN: interpretable
    representation learning by information maximizing generative adversarial nets. `Sleep` of `c, u`
    beside the game on `x` maximises a lower bound on the codes' mutual information with x. There q
    shares its body with the critic, which keeps it to what makes a datum real; here it has a net of
    its own, as the critic is no part of a pair, and noise on what it reads keeps it to what can be
    seen: without, a code written in a few faint pixels tells as much as a digit's class. z is not
    inferred: the guide draws it from its prior.

    Args:
        prior: Of the noise; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to the codes' distributions; a net, any module, or a name.
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
        >>> pair.encoder(torch.zeros(3, 1, 8, 8))[1].event_shape
        torch.Size([2])
    """

    name = "infogan"

    uniform: Tensor
    one: Tensor

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
        super().__init__(latent)
        self.codes, self.noise = at_least(2, "codes", codes), noise
        self.continuous = at_least(0, "continuous", continuous)
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = CodesEncoder(encoder, codes, continuous, noise=noise)
        self.generator = Decoder(generator, self.prior, Delta(), given=codes + continuous)
        self.register_buffer("uniform", torch.zeros(codes), persistent=False)
        self.register_buffer("one", torch.ones(continuous), persistent=False)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            c = pyro.sample("c", OneHot(logits=self.uniform))
            given = [c]
            if self.continuous:
                given = [pyro.sample("u", dist.Uniform(-self.one, self.one).to_event(1)), c]
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.generator(z, *given), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            code, continuous = self.encoder(x)
            pyro.sample("c", code)
            if self.continuous:
                pyro.sample("u", continuous)
            pyro.sample("z", self.prior())
