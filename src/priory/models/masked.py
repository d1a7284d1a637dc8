"""The variational autoencoder of data with missing entries."""

from math import prod
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.seen import Seen
from priory.likelihoods import Likelihood
from priory.lookup import lookup
from priory.models.pair import Amortised
from priory.nets import Decoder, Encoder
from priory.nets.steps import check_alone
from priory.part import Shape
from priory.posteriors import Posterior
from priory.priors import PRIORS, AggregatedPosterior, Prior


class MaskedEncoder(Encoder):
    """From a datum and which of its entries are seen to q(z | x_seen).

    The net reads 0 for a missing entry, which is the column's mean in the likelihood's units, and
    the mask beside: of an image in planes of its own.

    Args:
        net: From both to the family's features; a net, any module, or a name.
        support: Of the latent: a torch constraint.
        posterior: The family of q(z | x_seen), or its name; "auto" takes the one of the support.
    """

    def inputs(self, shape: Shape) -> Shape:
        """Return the shape of a datum with its mask."""
        check_alone(self.net, "a mask")
        self.images = len(shape) == 3 and not self.net.flat
        self.dims = len(shape)
        return (2 * shape[0], *shape[1:]) if self.images else (2 * prod(shape),)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> TorchDistribution:
        """Return q(z | x_seen), batch shape (*batch).

        Args:
            x: Data, (*batch, *shape); what stands at a missing entry is not read.
            seen: Boolean, true where an entry is seen, likewise; all are if None.

        Raises:
            RuntimeError: There are no parameters yet.
        """
        data = self.read(x)
        mask = torch.ones_like(data)
        if seen is not None:
            mask = self._likelihood[0].beside(seen).to(data.dtype)
        data = torch.where(mask > 0, data, 0.0)
        if self.images:
            return self.head(self.net(torch.cat([data, mask], -3)))
        flat = [part.reshape(*part.shape[: part.dim() - self.dims], -1) for part in (data, mask)]
        return self.head(self.net(torch.cat(flat, -1)))


class MaskedVAE(Amortised):
    r"""The variational autoencoder that integrates missing entries out, as MIWAE does.

    .. math:: z \sim p(z), \quad x_i \sim p(x_i \mid f(z)), \quad
        p(x_\text{seen}, z) = p(z) \prod_{i \text{ seen}} p(x_i \mid f(z)); \qquad
        z \sim q(z \mid g(x_\text{seen}, \text{seen}))

    Mattei and Frellsen, 2019, MIWAE: deep generative modelling and imputation of incomplete data
    sets. Where entries are missing at random, `IWAE` bounds the likelihood of what is seen. The
    column `seen` is that of data with `missing="integrate"`; without it all entries are seen.

    Args:
        prior: p(z); its support decides which posteriors fit.
        encoder: g, from a datum and its mask to the posterior's features; a net, any module, or a
            name.
        decoder: f, from a latent to the likelihood's features; likewise.
        likelihood: Of a datum, with independent entries; "auto" takes the one that fits the
            training data's values.
        latent: Number of latent coordinates.
        posterior: The family of q(z | .), or its name in `priory.posteriors.POSTERIORS`; "auto"
            takes the one of the prior's support.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or the family does not cover the
            prior's support; when a density is asked for, if the likelihood has no independent
            entries.

    Example:
        >>> pair = MaskedVAE(latent=2)
        >>> x = torch.randn(9, 3)
        >>> pair.build(x)
        >>> pair.encoder(x, x > 0).event_shape
        torch.Size([2])
    """

    name = "masked-vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.prior = lookup("prior", prior, PRIORS)
        if isinstance(self.prior, AggregatedPosterior):
            raise ValueError(
                f"the inputs of {type(self.prior).__name__} have no mask, which this pair's "
                "posterior reads: use GaussianMixture"
            )
        self.encoder = MaskedEncoder(encoder, self.prior.support, posterior=posterior)
        self.decoder = Decoder(decoder, self.prior, likelihood)

    def explain(self, z: Tensor, seen: Tensor | None) -> Any:
        """Return p(x_seen | z), batch shape (*batch).

        Args:
            z: Latents, (*batch, latent).
            seen: Which entries are seen, (*batch, *shape); all are if None.
        """
        whole = self.decoder(z)
        return whole if seen is None else Seen(whole, seen)

    def model(self, x: Tensor, seen: Tensor | None = None) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.explain(z, seen), obs=x)

    def guide(self, x: Tensor, seen: Tensor | None = None) -> None:
        with self.batch(x):
            pyro.sample("z", self.encoder(x, seen))
