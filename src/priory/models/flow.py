"""Normalising flows of data: exact densities, and levels with noise between them."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from priory.data.levels import level_spacing
from priory.distributions.levels import Dequantized, Floor
from priory.distributions.normal_flow import NormalFlow
from priory.likelihoods import ContinuousBernoulli
from priory.likelihoods.values import is_binary
from priory.lookup import lookup, named
from priory.models.pair import Pair
from priory.nets import FLOWS, Encoder, FlowNet, FlowUnits
from priory.posteriors import Posterior

DEQUANTISE = {n: n for n in ("auto", "none", "uniform", "variational")}
_ROWS = 10_000  # of the training data, from which a flow's start is taken


class NormalizingFlow(Pair):
    r"""A flow that reaches the data, with no latent; or the levels below it, with one.

    .. math:: x \sim p(x) = N(f(x); 0, I) \, |\det \partial f / \partial x|

    Continuous data are the flow's own: log p(x) is exact, and so is every bound. Data at evenly
    spaced levels, such as the greys of eight bits, have no density: there the flow's draw is
    rounded down, and the noise above a level is the latent,

    .. math:: z \sim N(f(z); 0, I) \, |\det \partial f / \partial z|, \quad
        x = \lfloor z \rfloor / t; \qquad z = t x + u, \quad u \sim q(u \mid x)

    with q uniform on (0, 1), or a flow given x. The bounds are then on the log mass of a level,
    which nats and bits are of. Dinh, Sohl-Dickstein and Bengio, 2017, Density estimation using
    Real NVP; Theis, van den Oord and Bethge, 2016, A note on the evaluation of generative models;
    Ho et al., 2019, Flow++.

    Args:
        flow: f; a flow, or a name.
        dequantise: "none" for continuous data, "uniform" or "variational" for levels 0, 1/t, ...,
            1; "auto" takes "uniform" for data on such levels, else "none".
        encoder: The net of a variational q(u | x), from a datum to the posterior's features.
        posterior: Its family, of the log-odds of u, or its name.

    Raises:
        ValueError: A name is unknown; at the build, the data are binary or constant, or are on no
            such levels.
        ImportError: At the build, zuko isn't installed.

    Example:
        >>> pair, x = NormalizingFlow("maf"), torch.randn(10, 5)
        >>> pair.build(x)
        >>> pair.density().log_prob(x).shape
        torch.Size([10])
    """

    name = "flow"
    top: Tensor

    def __init__(
        self,
        flow: FlowNet | str = "nsf",
        dequantise: str = "auto",
        encoder: nn.Module | str = "mlp",
        posterior: Posterior | str = "coupling",
    ) -> None:
        super().__init__()
        self.dequantise = named("dequantisation", dequantise, DEQUANTISE)
        self.flow = lookup("flow", flow, FLOWS)
        self.units = FlowUnits()
        self.encoder = Encoder(encoder, constraints.real, posterior=posterior)

    @property
    def is_estimated(self) -> bool:
        """Whether log p(x) is an unbiased estimate, whose exponential is none of p(x)."""
        return False

    @property
    def how(self) -> str:
        """How the log density is computed, where a figure is to note it."""
        return ""

    @property
    def posterior(self) -> Posterior | str:
        """The family of the log-odds of u, where q(u | x) is variational."""
        return self.encoder.posterior

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the flow for training data (n, *shape), which say whether they lie on levels."""
        top = _top(x)
        if self.dequantise == "auto":
            self.dequantise = "none" if top is None else "uniform"
        if self.dequantise == "none":
            _check_continuous(x)
            self.units.build(x)
        else:
            self.register_buffer("top", x.new_tensor(float(_checked(x, top))))
            x = x[_evenly(len(x)).to(x.device)]
            x = Dequantized(x, self.top, x.dim() - 1).sample()
            self.units.build(x, levels=int(self.top) + 1)
        few = x[_evenly(len(x)).to(x.device)]
        self.flow.build(self.units(few)[0])
        if self.dequantise == "variational":
            reading = ContinuousBernoulli()
            reading.build(x)
            self.encoder.build(x, x[0].numel(), reading)

    def density(self) -> NormalFlow:
        """Return the flow's distribution, batch shape (): of x, or of z where x are levels.

        Raises:
            RuntimeError: The pair is not built.
        """
        self.flow.check_built()
        return NormalFlow((self.units, self.flow), self.flow.built_for, self.units.centre)

    def noise(self, x: Tensor) -> Dequantized:
        """Return q(z | x), batch shape (*batch), for data (*batch, *shape) on levels."""
        base = self.encoder(x) if self.dequantise == "variational" else None
        return Dequantized(x, self.top, len(self.flow.built_for), base)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            if self.dequantise == "none":
                pyro.sample("x", self.density(), obs=x)
            else:
                z = pyro.sample("z", self.density())
                pyro.sample("x", Floor(z, self.top, len(self.flow.built_for)), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            if self.dequantise != "none":
                pyro.sample("z", self.noise(x))


def _evenly(rows: int) -> Tensor:
    """Return the numbers of rows, at most 10,000, evenly spaced."""
    return torch.linspace(0, rows - 1, min(rows, _ROWS), dtype=torch.float64).round().long()


def _top(x: Tensor) -> int | None:
    """Return t of data that lie on levels 0, 1/t, ..., 1; None of others.

    Args:
        x: Training data, (n, *shape).
    """
    spacing = level_spacing(x) if float(x.min()) >= 0 and float(x.max()) <= 1 else None
    top = 0 if spacing is None else round(1 / spacing)
    return top if spacing and abs(top * spacing - 1) < 1e-4 else None


def _is_blank(x: Tensor) -> bool:
    """Say whether all data are the same number, as of a run that is read back."""
    return bool((x == x.flatten()[0]).all())


def _checked(x: Tensor, top: int | None) -> int:
    """Return t, or raise ValueError where there is none to be dequantised."""
    if _is_blank(x):
        return 1
    if top is None:
        raise ValueError(
            "a flow of levels expected x at evenly spaced levels 0, 1/t, ..., 1, got other values "
            f"from {float(x.min()):.4g} to {float(x.max()):.4g}: divide levels by their largest "
            "possible value, or take dequantise='none' for continuous data"
        )
    if is_binary(x):
        raise ValueError(
            "a flow expected continuous data or several levels, got binary x: take greyscale "
            "images (binarise='none'), or an autoregressive pair such as `made`, which has masses"
        )
    return top


def _check_continuous(x: Tensor) -> None:
    """Raise ValueError where a density of the training data, (n, *shape), has no end."""
    if is_binary(x):
        _checked(x, 1)
    if _is_blank(x) or len(x) < 3:
        return
    low, high = x.amin(0), x.amax(0)
    few = ((x == low) | (x == high)).all(0)
    if few.any():
        raise ValueError(
            f"a flow expected continuous data, got {int(few.sum())} of {few.numel()} coordinates "
            "with one or two values in all training rows, of which a density grows without end: "
            "leave them out, or divide levels by their largest value for dequantise='uniform'"
        )
