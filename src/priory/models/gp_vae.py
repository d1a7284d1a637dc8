"""The variational autoencoder whose latents follow a column of the rows, as a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from priory.distributions.expected import ExpectedNormal
from priory.distributions.independent import IndependentNormal
from priory.likelihoods import Likelihood
from priory.lookup import positive
from priory.models.ladder import merged
from priory.models.pair import Shared
from priory.nets import Decoder, Encoder, SparseGP
from priory.part import Part

_FINE = 0.01  # of a length, the rounding error of t that is put up with


class LatentProcess(Part):
    r"""The distribution of latents at values of a column, standard normal at each alone.

    .. math:: p(z_d \mid t, u_d) = N\big(\sqrt{r_d} f_d(t), \; 1 - r_d\big), \quad
        f_d \sim GP(0, e^{-\frac12 (t - t')^2 / l^2})

    Args:
        inducing: Number of inducing points, evenly spaced.
        length: Where l starts, in units of t; None takes the inducing points' spacing.
        share: Where all r_d start.

    Raises:
        ValueError: A number is out of range.
    """

    _kind = "process"

    def __init__(self, inducing: int, length: float | None, share: float) -> None:
        super().__init__()
        if length is not None and not length > 0:
            raise ValueError(f"length must be positive, got {length}")
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, got {share}")
        self.inducing, self.length, self.start = inducing, length, share
        self.gp = SparseGP(inducing, "rbf", fixed=True)

    def build(self, latent: int, span: tuple[float, float], x: Tensor) -> None:
        """Make the parameters; a second call for the same sizes does nothing.

        Args:
            latent: Number of latent coordinates.
            span: The least and the largest t.
            x: Training data, whose dtype and device the parameters take.
        """
        self.build_once((latent, span), lambda: self.make(latent, span, x))

    def make(self, latent: int, span: tuple[float, float], x: Tensor) -> None:
        """Make f, and the logits of r."""
        first, last = span
        self.first = first
        self.unit = self.length or (last - first) / max(1, self.inducing - 1)
        every = torch.linspace(0, (last - first) / self.unit, self.inducing, dtype=torch.float64)
        self.gp.build(every[:, None].to(x), x.new_zeros(latent), 1.0)
        self.logit = nn.Parameter(x.new_full((latent,), math.log(self.start / (1 - self.start))))

    @property
    def features(self) -> int:
        """Number of latent coordinates."""
        return len(self.logit)

    def embed(self, z: Tensor) -> Tensor:
        """Return latents as a decoder sees them: as they are."""
        return z

    def place(self, t: Tensor) -> Tensor:
        """Return values of the column (batch) as the inputs of f, (batch, 1).

        Raises:
            ValueError: They are not one number for each row.
        """
        if t.dim() != 1:
            raise ValueError(f"t must be one number for each row, (rows,), got {tuple(t.shape)}")
        return ((t.double() - self.first) / self.unit).to(self.logit.dtype).unsqueeze(-1)

    def check(self, t: Tensor) -> None:
        """Raise a ValueError if the precision of the column rounds it too coarsely for the kernel.

        Args:
            t: The column of the training rows, (rows,).
        """
        exact = not t.is_floating_point()
        error = 0.0 if exact else float(t.abs().max()) * torch.finfo(t.dtype).eps
        if error > _FINE * self.unit:
            raise ValueError(
                f"t lies so far from zero, at {float(t.abs().max()):g}, that {t.dtype} rounds it "
                f"by {error:.2g}, beside a length of {self.unit:.2g}: take the first t off all"
            )

    def forward(self, t: Tensor, u: Tensor | None = None) -> IndependentNormal:
        """Return p(z | t, .), batch shape (batch), for values of the column (batch).

        Args:
            t: The values.
            u: Inducing values, (latent, inducing), that are given; if None, they are averaged over.

        Raises:
            RuntimeError: There are no parameters yet.
        """
        self.check_built()
        mean, variance = self.gp(self.place(t), u)
        share, log_scale = self.logit.sigmoid(), logsigmoid(-self.logit) / 2
        loc, uncertainty = share.sqrt() * mean, (share * variance).expand_as(mean)
        if u is not None:
            return ExpectedNormal(loc, log_scale, uncertainty, 1)
        return IndependentNormal(loc, ((2 * log_scale).exp() + uncertainty).log() / 2, 1)


class GPVAE(Shared):
    r"""A variational autoencoder whose latents follow a column t, such as time or a pose.

    .. math::
        f_d \sim GP(0, k), \quad z_d \sim N(\sqrt{r_d} f_d(t), 1 - r_d), \quad x \sim p(x \mid z);
        \qquad u \sim q(u), \quad z \sim q(z \mid x, t, u) \propto \hat q(z; g(x)) \, p(z \mid t, u)

    Casale, Dalca, Saglietti, Listgarten and Fusi, 2018, Gaussian process prior variational
    autoencoders; with inducing values u, as in Jazbec et al., 2021, Scalable Gaussian process
    variational autoencoders. The kernel k is that of `LatentProcess`: at any one t a latent is
    standard normal, and a share r_d of its variance, learned for each coordinate, is common to rows
    whose t is alike. Without it, r = 0, it is the `VAE`.

    The guide merges what the datum says with what the process does, as the `LadderVAE`'s: with a
    linear-Gaussian decoder q is the exact posterior given u.

    In training, the inducing values are latents that all rows share, outside of the batch plate:
    KL(q(u) || p(u)) enters every bound by its share 1/N. The log density of z is the mean of log
    p(z | f(t)) over f given u, so that the ELBO is a bound of the Gaussian process itself and not
    only of rows that are independent given u. In evaluation mode p(z | t) is the posterior
    predictive distribution of a new row given the training rows, and u is integrated out by q(u):
    a bound is then one on log p(x | t), without a KL of u.

    Args:
        encoder: g, from a datum to a normal factor; a net, any module, or a name.
        decoder: From a latent to the likelihood's features; likewise.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        latent: Number of latent coordinates.
        inducing: Number of inducing points, evenly spaced over the span at the start.
        length: Of the kernel at the start, in units of t; None takes the inducing points' spacing.
        share: r at the start, the same for all coordinates.
        span: Least and largest t; by default those of the rows that `build` sees.
        rows: N, the number of training rows; by default that of those that `build` sees.

    Raises:
        ValueError: A name is unknown, a number is out of range, the training rows have no column t
            or a single value of it, or single precision rounds t; in training mode, if there are
            more rows than N.

    Example:
        >>> pair = GPVAE(latent=2, inducing=8)
        >>> t = torch.arange(10)
        >>> pair.build(torch.rand(10, 3), t=t)
        >>> pair.eval().process(t).event_shape
        torch.Size([2])
    """

    name = "gp-vae"

    def __init__(
        self,
        encoder: nn.Module | str = "mlp",
        decoder: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "auto",
        latent: int = 16,
        inducing: int = 128,
        length: float | None = None,
        share: float = 0.9,
        span: Sequence[float] | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__(latent)
        self.inducing, self.length, self.share = inducing, length, share
        self.span = None if span is None else _ends(span)
        self.rows = None if rows is None else positive("rows", rows)
        self.process = LatentProcess(inducing, length, share)
        self.encoder = Encoder(encoder, torch.distributions.constraints.real)
        self.decoder = Decoder(decoder, self.process, likelihood)

    def build(self, x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> None:
        """Make the parameters for data like `x`; a second call only looks at the data.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.
            y: Without effect.
            t: The column of all training rows, (n,); needed unless the span is given.

        Raises:
            ValueError: The data don't suit the pair, or there is no span.
        """
        self._check(x)
        if self.span is None and t is not None:
            self.span = _ends((float(t.min()), float(t.max())))
        super().build(x, y)
        if t is not None:
            self.process.check(t)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the parts' parameters."""
        if self.span is None:
            raise ValueError(
                "GPVAE's latents follow a column 't', which the training rows have not: give it, "
                "as in Data.from_arrays(x=x, t=times)"
            )
        self.rows = self.rows or len(x)
        self.process.build(self.latent, self.span, x)
        self.encoder.build(x, self.latent, self.decoder.choose(x))
        self.decoder.build(x)

    def inducing_values(self, fn: TorchDistribution) -> Tensor | None:
        """Draw the inducing values in training mode; None otherwise."""
        u: Tensor | None = pyro.sample("u", fn) if self.training else None
        return u

    def model(self, x: Tensor, t: Tensor) -> None:
        self.register(x)
        u = self.inducing_values(self.process.gp.prior())
        with self.of_rows(x):
            z = pyro.sample("z", self.process(t, u))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor, t: Tensor) -> None:
        self.register(x)
        u = self.inducing_values(self.process.gp.posterior())
        with self.of_rows(x):
            pyro.sample("z", merged(self.encoder(x), self.process(t, u)))


def _ends(span: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a span.

    Raises:
        ValueError: They are not two finite numbers, the first the less.
    """
    ends = tuple(float(end) for end in span)
    if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
        raise ValueError(
            f"the span of t must be two finite numbers, the least and the largest, got {ends}: a "
            "column without two values orders no rows"
        )
    return ends[0], ends[1]
