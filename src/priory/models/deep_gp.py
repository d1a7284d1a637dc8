"""The variational autoencoder whose decoder is a deep Gaussian process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.expected import ExpectedNormal
from priory.distributions.independent import IndependentNormal
from priory.likelihoods import LIKELIHOODS, Likelihood, Normal
from priory.lookup import lookup, positive
from priory.models.pair import Amortised, Shared, build_prior
from priory.nets import Encoder, SparseGP
from priory.nets.sparse_gp import Kernel
from priory.posteriors import Posterior
from priory.priors import PRIORS, Prior

_HIDDEN = 3e-3  # standard deviations of q(u) of a hidden layer at the start
_SMALL = 0.1  # standard deviation of a hidden function around its input at the start
_NOISE = 1e-6  # of a hidden value, in variance, so that it has a density at an inducing point


class DeepGPVAE(Amortised, Shared):
    r"""A variational autoencoder whose decoder is a Gaussian process, or a chain of them.

    .. math::
        z \sim p(z), \quad u_l \sim p(u_l), \quad h_l \sim p(f_l(h_{l-1}) \mid u_l), \quad
        x \sim N(f_L(h_{L-1}), s^2), \quad h_0 = z;
        \qquad z \sim q(z \mid g(x)), \quad u_l \sim q(u_l)

    Dai, Damianou, Gonzalez and Lawrence, 2016, Variational auto-encoded deep Gaussian processes;
    layers that are sampled, as in Salimbeni and Deisenroth, 2017, Doubly stochastic variational
    inference for deep Gaussian processes. See `priory.nets.SparseGP` for p(f | u) and q(u).

    In training, the inducing values u are latents that all rows share, outside of the batch plate:
    KL(q(u) || p(u)) enters every bound by its share 1/N. Hidden values h are drawn in both programs
    from p(h | u), and the last layer's are integrated out of log p(x | f), so that the ELBO is a
    bound of the Gaussian process itself and not only of rows that are independent given u.

    In evaluation mode, p(x | z) is the posterior predictive distribution: u is integrated out by
    q(u), nothing is shared, and bounds, samples and imputations are those of a new row. A bound in
    evaluation mode therefore has no KL of u.

    Args:
        prior: p(z); its support decides which posteriors fit.
        encoder: g, from a datum to the posterior's features; a net, any module, or a name.
        likelihood: Of a datum, a normal distribution with one noise for all coordinates.
        latent: Number of latent coordinates.
        hidden: Number of coordinates of each hidden layer, from the latent on; none for one layer.
        inducing: Number of inducing points of each layer.
        kernel: Of each layer: "rbf", "linear" or "rbf+linear".
        rows: N, the number of training rows; by default that of those that `build` sees. A pair
            that goes on with other data keeps it.
        posterior: The family of q(z | .), or its name; "auto" takes the one of the prior's support.

    Raises:
        ValueError: A name is unknown, a number isn't positive, the likelihood isn't normal with one
            noise, or the posterior's family does not cover the prior's support; in training mode,
            if there are more rows than N.

    Example:
        >>> pair = DeepGPVAE(latent=2, inducing=8)
        >>> pair.build(torch.rand(10, 1, 8, 8))
        >>> pair.eval().explain(torch.zeros(3, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    name = "deep-gp-vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "normal",
        latent: int = 16,
        hidden: Sequence[int] = (),
        inducing: int = 128,
        kernel: Kernel = "rbf+linear",
        rows: int | None = None,
        posterior: Posterior | str = "auto",
    ) -> None:
        super().__init__(latent)
        self.hidden = tuple(positive("hidden", size) for size in hidden)
        self.inducing, self.kernel = inducing, kernel
        self.rows = None if rows is None else positive("rows", rows)
        self.prior = lookup("prior", prior, PRIORS)
        noise = lookup("likelihood", likelihood, LIKELIHOODS)
        if not isinstance(noise, Normal) or noise.scale == "pixel":
            raise ValueError(
                "the decoder's values are integrated out of normal noise, the same for all "
                "coordinates: take likelihood='normal', with scale 'learned' or a number"
            )
        self.noise = noise
        self.encoder = Encoder(encoder, self.prior.support, posterior=posterior)
        self.layers: Any = nn.ModuleList(
            SparseGP(inducing, kernel, skip=True, spread=_HIDDEN) for _ in self.hidden
        )
        self.layers.append(SparseGP(inducing, kernel))

    @property
    def likelihood(self) -> Likelihood:
        """The noise."""
        return self.noise

    @torch.no_grad()
    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parts' parameters; the inducing points start at draws of the prior."""
        self.rows = self.rows or len(x)
        self.noise.check(x)
        self.noise.build(x)
        build_prior(self.prior, self.latent, x, self.noise, self.encoder)
        self.encoder.build(x, self.latent, self.noise)
        points = self.prior.embed(self.prior().sample((self.inducing,)).to(x))
        for layer, size in zip(self.layers, self.hidden, strict=False):
            layer.build(points, points.new_zeros(size), _SMALL)
            points = layer(points)[0]
        scaled = self.noise.scaled(x)
        mean = scaled.mean(0)
        spread = (scaled - mean).square().mean().sqrt().clamp(min=1e-2)
        self.layers[-1].build(points, mean.flatten(), float(spread))

    def inducing_values(self, *, guide: bool) -> list[Tensor | None]:
        """Draw each layer's inducing values in training mode, by p(u) or q(u); None otherwise."""
        return [
            pyro.sample(f"u{n}", layer.posterior() if guide else layer.prior())
            if self.training
            else None
            for n, layer in enumerate(self.layers, 1)
        ]

    def hide(self, n: int, h: Tensor, u: Tensor | None) -> TorchDistribution:
        """Return the distribution of the n-th layer's values, for those of the layer before."""
        mean, variance = self.layers[n](h, u)
        return IndependentNormal(mean, (variance + _NOISE).log().div(2).expand_as(mean), 1)

    def explain(self, z: Tensor, u: Tensor | None = None) -> TorchDistribution:
        """Return p(x | .), batch shape (*batch), for inputs of the last layer (*batch, inputs).

        Args:
            z: The inputs.
            u: Inducing values that are given; if None, they are averaged over.

        Raises:
            RuntimeError: There are no parameters yet.
        """
        mean, variance = self.layers[-1](z, u)
        shape = self.noise.shape or ()
        around = self.noise(mean.reshape(*mean.shape[:-1], 1, *shape))
        variance = variance.expand_as(mean).reshape(around.loc.shape)
        variance = variance * self.noise.unit.square()
        if u is not None:
            return ExpectedNormal(around.loc, around.log_scale, variance, len(shape))
        log_scale = ((2 * around.log_scale).exp() + variance).log() / 2
        return IndependentNormal(around.loc, log_scale, len(shape))

    def model(self, x: Tensor) -> None:
        self.register(x)
        u = self.inducing_values(guide=False)
        with self.of_rows(x):
            h = self.prior.embed(pyro.sample("z", self.prior()))
            for n in range(len(self.hidden)):
                h = pyro.sample(f"h{n + 1}", self.hide(n, h, u[n]))
            pyro.sample("x", self.explain(h, u[-1]), obs=x)

    def guide(self, x: Tensor) -> None:
        self.register(x)
        u = self.inducing_values(guide=True)
        with self.of_rows(x):
            h = self.prior.embed(pyro.sample("z", self.encoder(x)))
            for n in range(len(self.hidden)):
                h = pyro.sample(f"h{n + 1}", self.hide(n, h, u[n]), infer={"as_model": True})
