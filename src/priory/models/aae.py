"""The adversarial autoencoder with a categorical code beside the style."""

from math import prod
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.categorical import CODES, OneHot
from priory.likelihoods import Likelihood
from priory.lookup import at_least, lookup, named
from priory.models.pair import Amortised
from priory.nets import Decoder, Encoder
from priory.part import Shape
from priory.posteriors import Posterior
from priory.priors import PRIORS, Prior


class CodeEncoder(Encoder):
    """From a datum to q(c | x) and q(z | x), of one net.

    Args:
        net: From a datum to the features of both; a net, any module, or a name.
        support: Of the style: a torch constraint.
        codes: Number of the code's values.
        code: What is drawn of the code.
        point: Whether the style is the net's output itself.
        noise: Standard deviation of normal noise on the net's inputs in training.
        posterior: The family of q(z | x), or its name; "auto" takes the one of the support.
    """

    def __init__(
        self,
        net: nn.Module | str,
        support: Any,
        codes: int,
        code: str,
        *,
        point: bool = False,
        noise: float = 0.0,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(net, support, point=point, noise=noise, posterior=posterior)
        self.codes, self.code = codes, named("code", code, CODES)

    def make(self, x: Tensor, latent: int, likelihood: Likelihood) -> None:
        """Make the net, and what normalises the code's logits."""
        super().make(x, latent, likelihood)
        self.latent = latent
        self.normalise = nn.BatchNorm1d(self.codes)

    def outputs(self, latent: int) -> Shape:
        """Return the number of features: the logits, and the style's."""
        return (self.codes + prod(self.head.outputs(latent)),)

    def forward(  # type: ignore[override]
        self, x: Tensor
    ) -> tuple[TorchDistribution, TorchDistribution]:
        """Return q(c | x) and q(z | x), batch shape (*batch), for data (*batch, *shape)."""
        features = self.net(self.read(x))
        shape = self.head.outputs(self.latent)
        code, style = features.split([self.codes, prod(shape)], -1)
        logits = self.normalise(code.reshape(-1, self.codes)).reshape(code.shape)
        style = style.unflatten(-1, shape)
        return self.code(logits=logits), self.head(style)


class AAE(Amortised):
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
        deterministic: Whether the encoder gives the style itself.
        noise: Standard deviation of normal noise on the encoder's inputs in training.
        posterior: The family of the style's q(z | x), or its name in
            `priory.posteriors.POSTERIORS`, where the encoder does not give the style itself; "auto"
            takes the one of the prior's support.

    Raises:
        ValueError: A number is out of range, a name is unknown, a net's size doesn't fit, or the
            family does not cover the prior's support, or is one beside `deterministic`.

    Example:
        >>> pair = AAE(codes=16, latent=5)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.eval().encoder(torch.zeros(3, 1, 8, 8))[0].probs.shape
        torch.Size([3, 16])
    """

    name = "aae"

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
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.codes, self.code = at_least(2, "codes", codes), code
        self.deterministic, self.noise = deterministic, noise
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = CodeEncoder(
            encoder,
            self.prior.support,
            codes,
            code,
            point=deterministic,
            noise=noise,
            posterior=posterior,
        )
        self.decoder = Decoder(decoder, self.prior, likelihood, given=codes)
        self.register_buffer("uniform", torch.zeros(codes), persistent=False)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            c = pyro.sample("c", OneHot(logits=self.uniform))
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z, c), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            code, style = self.encoder(x)
            pyro.sample("c", code)
            pyro.sample("z", style)
