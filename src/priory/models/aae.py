"""The adversarial autoencoder with a categorical code beside the style."""

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.models.labels import beside
from priory.models.opening import is_built, likelihood_built, plate
from priory.models.parts import build_decoder, build_encoder, likelihood_named, prior_of, suited
from priory.names import named
from priory.nets import Likelihood, posterior_for
from priory.nets.base import Shape
from priory.nets.categorical import CODES, OneHot
from priory.nets.layers import check_noise, noisy
from priory.nets.table import net_of
from priory.priors import Prior


class AAE(nn.Module):
    r"""An autoencoder whose latents are a categorical code, such as a class, and a style.

    .. math:: c \sim \mathrm{Cat}(1/K), \quad z \sim p(z), \quad x \sim p(x \mid f(c, z)); \qquad
        c \sim \mathrm{Cat}(\mathrm{softmax}(g_c(x))), \quad z = g_z(x)

    Makhzani, Shlens, Jaitly, Goodfellow and Frey, 2016, Adversarial autoencoders. A critic for each
    latent makes its awake values follow the prior: alone for clusters, with `Classification` of c
    for few labels. Code and style come from one encoder. The code's logits are normalised over the
    batch before the softmax, as in the paper: without, all data fall into one cluster early, which
    no gradient leaves again.

    Args:
        prior: Of the style; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to code and style; a net, any module, or a name.
        decoder: From code and style to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of the style's coordinates.
        codes: K, the number of the code's values.
        code: What the guide draws of the code: "softmax", its probabilities themselves, which is
            the paper's way, or "straight-through", a one-hot vector with their gradient.
        deterministic: Whether the encoder gives the style itself rather than a law of it.
        noise: Standard deviation of normal noise on the encoder's inputs in training.

    Raises:
        ValueError: A number is out of range, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> pair = AAE(codes=16, latent=5)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.eval().posterior(torch.zeros(3, 1, 8, 8))[0].probs.shape
        torch.Size([3, 16])
    """

    uniform: Tensor

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 5,
        codes: int = 10,
        code: str = "softmax",
        deterministic: bool = True,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        for name, number, least in (("latent", latent, 1), ("codes", codes, 2)):
            if number < least:
                raise ValueError(f"{name} must be {least} or more, got {number}")
        self.prior = prior_of(prior)
        self.encoder, self.decoder = net_of(encoder), net_of(decoder)
        self.likelihood = likelihood_named(likelihood)
        self.latent = latent
        self.codes = codes
        named("code", code, CODES)
        self.code = code
        self.deterministic = deterministic
        self.noise = check_noise(noise)
        self.shape: Shape | None = None

    def build(self, x: Tensor) -> None:
        """Make the parameters for data like `x`; a second call does nothing.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.

        Raises:
            ValueError: The data don't suit the likelihood, a net's size doesn't fit, or the pair is
                built for another shape.
        """
        if is_built(self, x):
            return
        shape = tuple(x.shape[1:])
        self.likelihood = suited(self.likelihood, x)
        self.prior.build(self.latent, x)
        self.head = posterior_for(self.prior.support, self.deterministic)
        build_encoder(self.encoder, shape, (self.codes + self.head.params * self.latent,), x)
        self.normalise = nn.BatchNorm1d(self.codes)
        build_decoder(self.decoder, self.codes + self.prior.features, self.likelihood, x)
        self.register_buffer("uniform", torch.zeros(self.codes), persistent=False)
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    def posterior(self, x: Tensor) -> tuple[TorchDistribution, TorchDistribution]:
        """Return q(c given x) and q(z given x), batch shape (*batch), for data (*batch, *shape)."""
        likelihood = likelihood_built(self)
        sizes = [self.codes, self.head.params * self.latent]
        x = noisy(likelihood.read(x), self.noise if self.training else 0.0)
        code, style = self.encoder(x).split(sizes, -1)
        logits = self.normalise(code.reshape(-1, self.codes)).reshape(code.shape)
        features = style.unflatten(-1, (self.head.params, self.latent))
        return CODES[self.code](logits=logits), self.head(features)

    def likelihood_of(self, c: Tensor, z: Tensor) -> TorchDistribution:
        """Return p(x given c, z) for codes (*batch, codes) and styles (*batch, latent)."""
        return likelihood_built(self)(self.decoder(beside(self.prior.embed(z), c)))

    def model(self, x: Tensor) -> None:
        """Declare p(x, c, z) for a batch of data (batch, *shape)."""
        with plate("aae", self, x):
            c = pyro.sample("c", OneHot(logits=self.uniform))
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(c, z), obs=x, infer=own)

    def guide(self, x: Tensor) -> None:
        """Declare q(c, z given x) for a batch of data (batch, *shape)."""
        with plate("aae", self, x):
            code, style = self.posterior(x)
            pyro.sample("c", code)
            pyro.sample("z", style)
