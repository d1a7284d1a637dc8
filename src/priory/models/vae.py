"""The variational autoencoder, with any prior, nets and likelihood."""

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.models.opening import is_built, likelihood_built, plate
from priory.models.parts import build_decoder, build_encoder, likelihood_named, prior_of, suited
from priory.names import positive
from priory.nets import Likelihood, posterior_for
from priory.nets.base import Shape
from priory.nets.table import net_of
from priory.nets.values import is_table
from priory.priors import Prior


class VAE(nn.Module):
    r"""The variational autoencoder.

    .. math:: z \sim p(z), \quad x \sim p(x \mid f(z)); \qquad z \sim q(z \mid g(x))

    Kingma and Welling, 2014, Auto-encoding variational Bayes; Rezende, Mohamed and Wierstra, 2014.
    The posterior's family follows from the prior's support, unless the encoder is
    deterministic, z = g(x), as in an autoencoder.

    Args:
        prior: Of the latent; an object or its name in `priory.priors.PRIORS`.
        encoder: From a datum to the posterior's features; a net, any module, or a name.
        decoder: From a latent to the likelihood's features; a net, any module, or a name.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.
        deterministic: Whether the encoder gives the latent itself rather than a law of it.

    Raises:
        ValueError: The latent isn't positive, a name is unknown, or a net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = VAE(prior="normal", latent=4)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.posterior(torch.zeros(3, 1, 8, 8)).event_shape
        torch.Size([4])
    """

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        deterministic: bool = False,
    ) -> None:
        super().__init__()
        self.latent = positive("latent", latent)
        self.prior = prior_of(prior)
        self.encoder, self.decoder = net_of(encoder), net_of(decoder)
        self.likelihood = likelihood_named(likelihood)
        self.deterministic = deterministic
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
        table = is_table(x)  # whose pseudo-inputs are kept in units of the columns
        inputs = self.likelihood.scaled(x) if table else x
        self.prior.build(self.latent, inputs, self._of_scaled if table else self.posterior)
        self.head = posterior_for(self.prior.support, self.deterministic)
        build_encoder(self.encoder, shape, (self.head.params, self.latent), x)
        build_decoder(self.decoder, self.prior.features, self.likelihood, x)
        self.to(device=x.device, dtype=x.dtype)
        self.shape = shape

    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return q(z given x), batch shape (*batch), for data (*batch, *shape)."""
        return self._of_scaled(likelihood_built(self).scaled(x))

    def _of_scaled(self, x: Tensor) -> TorchDistribution:
        """Return q(z given x) for data in the likelihood's units."""
        return self.head(self.encoder(likelihood_built(self).drawn_in(x)))

    def likelihood_of(self, z: Tensor) -> TorchDistribution:
        """Return p(x given z), batch shape (*batch), for latents (*batch, latent)."""
        return likelihood_built(self)(self.decoder(self.prior.embed(z)))

    def model(self, x: Tensor) -> None:
        """Declare p(x, z) for a batch of data (batch, *shape)."""
        with plate("vae", self, x):
            z = pyro.sample("z", self.prior())
            own = {"likelihood": self.likelihood}
            pyro.sample("x", self.likelihood_of(z), obs=x, infer=own)

    def guide(self, x: Tensor) -> None:
        """Declare q(z given x) for a batch of data (batch, *shape)."""
        with plate("vae", self, x):
            pyro.sample("z", self.posterior(x))
