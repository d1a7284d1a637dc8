"""Generative latent optimisation: a generator and a learned code for every training row."""

from __future__ import annotations

import math
from typing import Literal

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor, nn

from priory.likelihoods import Likelihood
from priory.lookup import positive
from priory.models.pair import Pair
from priory.nets import Decoder
from priory.priors.embedding import Codes, in_ball

_STARTS = 1000  # training codes among which a new datum's search begins at the nearest
_RATE, _BETAS = 0.3, (0.8, 0.99)  # of the search, in units of the ball's radius


class GLO(Pair):
    r"""A generator whose codes are learned with it, one for each training row, without an encoder.

    .. math:: \min_{G, z_1, \dots, z_n} \sum_i \ell(G(z_i), x_i), \quad |z_i| \le 1;
        \qquad z \sim N(\bar z, \mathrm{Cov}(z_i)), \quad x = G(z)

    Bojanowski, Joulin, Lopez-Paz and Szlam, 2018, Optimizing the latent space of generative
    networks. The guide reads a training row's code by the column `index`; the gradient is that of
    projected descent in the unit ball. Samples are drawn from a normal distribution with full
    covariance, fitted to the codes. In evaluation mode no row is taken for a training row: the code
    of a datum is searched for through the fixed generator, from the nearest of the training codes
    on, so that what is told of unseen data is honest.

    Args:
        generator: From a code to the likelihood's features; a net, any module, or a name.
        likelihood: Of a datum; "delta" for the generator's output itself, "auto" for the one that
            fits the training data's values.
        latent: Number of a code's coordinates.
        rows: Number of training rows, for which there are codes; by default those that `build`
            sees. Needed where the data are too many for it to see all.
        start: Of the codes: "principal" for the whitened principal components of the training
            rows, "normal" for draws, from which it takes far more epochs.
        rate: How many times faster than the generator the codes are learned, by an optimiser to
            which a gradient's scale is nothing, such as Adam; each step sees only a few codes. The
            paper's is 10.
        search: Steps by which the code of a datum is searched for in evaluation mode.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or the net's size doesn't fit.

    Example:
        >>> pair = GLO(latent=4)
        >>> pair.build(torch.rand(10, 1, 8, 8))
        >>> pair.prior.of(torch.tensor([0, 9])).shape
        torch.Size([2, 4])
        >>> pair.eval().find(torch.rand(3, 1, 8, 8)).shape
        torch.Size([3, 4])
    """

    name = "glo"

    def __init__(
        self,
        generator: nn.Module | str = "mlp",
        likelihood: Likelihood | str = "delta",
        latent: int = 16,
        rows: int | None = None,
        start: Literal["principal", "normal"] = "principal",
        rate: float = 10.0,
        search: int = 50,
    ) -> None:
        super().__init__(latent)
        self.search = positive("search", search)
        self.prior = Codes(rows, start, rate)
        self.generator = Decoder(generator, self.prior, likelihood)

    @property
    def start(self) -> str:
        """What the codes start from."""
        return self.prior.start

    @property
    def rate(self) -> float:
        """How many times faster the codes are learned."""
        return self.prior.rate

    @property
    def rows(self) -> int | None:
        """Number of codes, None before they are made."""
        return self.prior.rows

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make a code for each of the training rows (n, *shape), and the generator."""
        self.prior.build(self.latent, _compared(self.generator.choose(x), x))
        self.generator.build(x)

    def find(self, x: Tensor) -> Tensor:
        """Return the codes in the unit ball whose means are nearest to data, (*batch, latent).

        By projected descent on each datum's squared error, with momentum, and with a step of a
        given length that falls to 0, so that the error's scale is nothing to it; no random draws.

        Args:
            x: Data, (*batch, *shape).
        """
        self.generator.check_built()
        shape = self.generator.built_for
        batch = x.shape[: x.dim() - len(shape)]
        x = self._comparable(x.detach().reshape(-1, *shape))
        z = self._nearest(x)
        first, second = torch.zeros_like(z), torch.zeros_like(z[:, :1])
        for step in range(1, self.search + 1):
            with torch.enable_grad():
                z.requires_grad_()
                error = (self._mean(z) - x).square().sum()
                (slope,) = torch.autograd.grad(error, z)
            first.lerp_(slope, 1 - _BETAS[0])
            second.lerp_(slope.square().sum(1, keepdim=True), 1 - _BETAS[1])
            size = (second / (1 - _BETAS[1] ** step)).sqrt().clamp(min=torch.finfo(z.dtype).tiny)
            rate = _RATE * 0.5 * (1 + math.cos(math.pi * (step - 1) / self.search))
            z = in_ball(z.detach() - rate * first / (1 - _BETAS[0] ** step) / size)
        return z.reshape(*batch, self.latent)

    def _comparable(self, x: Tensor) -> Tensor:
        """Return data, or means, in the unit that they are compared in."""
        return _compared(self.generator.choose(x), x)

    def _mean(self, z: Tensor) -> Tensor:
        """Return the means of p(x | z) in that unit."""
        return self._comparable(self.generator(z).mean)

    @torch.no_grad()
    def _nearest(self, x: Tensor) -> Tensor:
        """Return the training codes, of some evenly spaced ones, whose means are nearest."""
        count = min(_STARTS, len(self.prior.table))
        index = torch.linspace(0, len(self.prior.table) - 1, count, dtype=torch.float64)
        codes = self.prior.of(index.round().long().to(x.device))
        means = self._mean(codes).flatten(1)
        return codes[torch.cdist(x.flatten(1), means).argmin(1)]

    def model(self, x: Tensor) -> None:
        """Declare p(x, z) for a batch of data (batch, *shape)."""
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.generator(z), obs=x)

    def guide(self, x: Tensor, index: Tensor | None = None) -> None:
        """Declare the codes of training rows, in evaluation mode those found for any data.

        Args:
            x: Data, (batch, *shape).
            index: The training rows' numbers, (batch,).

        Raises:
            ValueError: There is no such row, or no index in training mode.
        """
        with self.batch(x):
            if self.training and index is None:
                raise ValueError(
                    "GLO learns a code for each training row and needs their numbers: give the "
                    "column 'index', which every Data has, or call eval() to search for codes"
                )
            z = self.prior.of(index) if self.training and index is not None else self.find(x)
            pyro.sample("z", Delta(z, event_dim=1))


def _compared(likelihood: Likelihood, x: Tensor) -> Tensor:
    """Return data (*batch, *shape) in one unit, so that squared errors compare as the data's do.

    Of a table it is that of the widest column, as the squares of large values overflow.
    """
    unit = getattr(likelihood, "unit", None)
    scaled = likelihood.scaled(x)
    return scaled if unit is None else scaled * (unit / unit.max())
