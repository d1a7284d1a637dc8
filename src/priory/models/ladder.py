"""The ladder variational autoencoder: recognition corrects the generative path on its way down."""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.independent import IndependentNormal
from priory.likelihoods import Likelihood
from priory.likelihoods.values import SMALL, starts_small
from priory.lookup import lookup
from priory.models.hierarchical import Chain, build_layers, sizes_of
from priory.models.pair import build_prior
from priory.nets import MLP, Decoder, Net, StochasticLayer
from priory.nets.table import net_of
from priory.priors import PRIORS, Prior


def merged(term: TorchDistribution, prior: TorchDistribution) -> IndependentNormal:
    r"""Return the normalised product of two independent normals, each weighted by its precision.

    .. math::
        \mu = \frac{\mu_q \sigma_q^{-2} + \mu_p \sigma_p^{-2}}{\sigma_q^{-2} + \sigma_p^{-2}},
        \qquad \sigma^2 = \frac{1}{\sigma_q^{-2} + \sigma_p^{-2}}

    With a normal likelihood term as the one and the prior as the other it is the posterior.

    Args:
        term: N(mu_q, sigma_q^2), an `IndependentNormal`.
        prior: N(mu_p, sigma_p^2), likewise.

    Example:
        >>> zero = torch.zeros(2)
        >>> merged(IndependentNormal(zero + 1, zero, 1), IndependentNormal(zero, zero, 1)).mean
        tensor([0.5000, 0.5000])
    """
    assert isinstance(term, IndependentNormal)  # noqa: S101
    assert isinstance(prior, IndependentNormal)  # noqa: S101
    share = torch.sigmoid(2 * (prior.log_scale - term.log_scale))  # of the term in the precision
    loc = prior.loc + share * (term.loc - prior.loc)
    log_scale = -0.5 * torch.logaddexp(-2 * term.log_scale, -2 * prior.log_scale)
    return IndependentNormal(loc, log_scale, 1)


class LadderVAE(Chain):
    r"""A chain of latents whose guide goes down it, and merges what a datum says with the model.

    .. math::
        z_L \sim p(z_L), \quad z_l \sim p_l = N(z_l; f_l(z_{l+1})), \quad
        x \sim p(x \mid f_0(z_1));

    .. math::
        d_l = g_l(d_{l-1}), \quad \hat q_l = N(z_l; A_l d_l + b_l), \qquad
        z_L \sim \hat q_L, \quad z_l \sim q_l \propto \hat q_l \, p_l(z_l \mid z_{l+1}),

    with :math:`d_0 = x`. Sonderby, Raiko, Maaloe, Sonderby and Winther, 2016, Ladder variational
    autoencoders. The guide goes through the model's own distributions, so that it learns them too:
    where the datum says nothing of a layer, its guide is the model. The nets between layers have
    two hidden layers with batch normalisation and leaky rectifiers; the layers' deviations are
    logarithms here, the authors' softplus. Train it by a bound with warm-up or `FreeBits`, and with
    the gradient clipped: while the KL weighs little, guide and prior sharpen together, and a rare
    batch costs millions of nats. With one layer it has the form of the `VAE`.

    The top is recognised from a datum alone, through the chain of the g_l, so that p(zL) may be
    made of its posteriors at any number of layers: as a VampPrior it is the mean of
    :math:`\hat q_L(z_L \mid u)` at pseudo-inputs u (Tomczak and Welling, 2018, VAE with a
    VampPrior, for two levels). The g_l normalise over the batch that they read, in training mode
    over the pseudo-inputs by themselves.

    Args:
        prior: p(zL); an object or its name in `priory.priors.PRIORS`.
        encoder: g_1, from a datum to d_1; a net, any module, or a name.
        decoder: f_0, from z1 to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latents: Number of coordinates of each layer, z1 first.
        widths: Number of coordinates of each d_l, and of hidden units in the nets beside it.
        batch_norm: Whether the nets from a latent to the layer below normalise over the batch; a
            bound of several particles asks for none, there and in the decoder.

    Raises:
        ValueError: A number isn't positive, the layers are not as many in both, a name is unknown,
            or a net's size doesn't fit.

    Example:
        >>> pair = LadderVAE(latents=(8, 4), widths=(16, 8))
        >>> pair.build(torch.rand(10, 1, 8, 8))
        >>> [q.event_shape for q in pair.terms(torch.rand(5, 1, 8, 8))]
        [torch.Size([8]), torch.Size([4])]
    """

    name = "ladder-vae"

    def __init__(
        self,
        prior: Prior | str = "normal",
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latents: Sequence[int] = (64, 32, 16),
        widths: Sequence[int] = (512, 256, 128),
        batch_norm: bool = True,
    ) -> None:
        sizes, widths = sizes_of("latents", latents), sizes_of("widths", widths)
        if len(sizes) != len(widths):
            raise ValueError(
                f"latents and widths must be as many, one for each layer, got {sizes} and {widths}"
            )
        super().__init__(sizes[0])
        self.latents, self.widths, self.batch_norm = sizes, widths, batch_norm
        self.prior = lookup("prior", prior, PRIORS)
        self.encoder = net_of(encoder)
        self.up = nn.ModuleList(_between(width) for width in widths[1:])
        supports = [*(constraints.real for _ in sizes[1:]), self.prior.support]
        self.recognition = nn.ModuleList(StochasticLayer(MLP(()), s) for s in supports)
        self.down = nn.ModuleList(StochasticLayer(_between(w, batch_norm)) for w in widths[:-1])
        self.decoder = Decoder(decoder, self.seen[0], likelihood)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parameters for data (n, *shape)."""
        likelihood, sizes, widths = self.decoder.choose(x), self.latents, self.widths
        build_prior(self.prior, sizes[-1], x, likelihood, Top(self))
        self.encoder.build(self.decoder.choose(x).inputs(tuple(x.shape[1:])), widths[:1])
        for net, inputs, outputs in zip(self.up, widths[:-1], widths[1:], strict=True):
            net.build((inputs,), (outputs,))  # type: ignore[operator]
        build_layers(self.recognition, widths, sizes)
        if starts_small(x):
            for layer in self.recognition:
                layer.net.temper(SMALL)  # type: ignore[union-attr, operator]
        if self.down:
            build_layers(self.down, [*sizes[1:-1], self.prior.features], sizes[:-1])
        self.decoder.build(x)

    def terms(self, x: Tensor) -> list[TorchDistribution]:
        """Return what data (*batch, *shape) say of each layer by themselves, z1 first.

        Raises:
            RuntimeError: There are no parameters yet.
        """
        likelihood = self.likelihood
        return self.terms_of(x if isinstance(likelihood, str) else likelihood.read(x))

    def terms_of(self, x: Tensor) -> list[TorchDistribution]:
        """Return those of data as the encoder reads them."""
        d = self.encoder(x)
        found = [self.recognition[0](d)]
        for net, layer in zip(self.up, self.recognition[1:], strict=True):
            d = net(d)
            found.append(layer(d))
        return found

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            terms = self.terms(x)
            z = pyro.sample(f"z{len(terms)}", terms[-1])
            for n in range(len(self.down), 0, -1):
                above = self.down[n - 1](self.seen[n].embed(z))
                z = pyro.sample(f"z{n}", merged(terms[n - 1], above))


class Top:
    """The top of a ladder as a function of a datum alone: what a VampPrior is made of.

    Args:
        pair: The ladder.
    """

    def __init__(self, pair: LadderVAE) -> None:
        self._pair = pair

    def forward(self, x: Tensor) -> TorchDistribution:
        """Return q(zL | x), batch shape (*batch), for data (*batch, *shape)."""
        return self._pair.terms(x)[-1]

    def of_scaled(self, x: Tensor) -> TorchDistribution:
        """Return q(zL | x) for data in the likelihood's units."""
        return self._pair.terms_of(self._pair.head.drawn_in(x))[-1]


def _between(width: int, batch_norm: bool = True) -> Net:
    """Return a net between two layers."""
    return MLP((width, width), "leaky-relu", batch_norm=batch_norm)
