"""Corruptions with closed forms: Gaussian noise and the flips of bits, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.lookup import named
from priory.models.chain import Corruption

_MOST = 0.999  # of a step's share of noise, but where a schedule means to end with all
_OFFSET = 0.008  # of the cosine, so that the first steps are not too small
_CERTAIN = 40.0  # log-odds of a bit that is what it is


def linear(steps: int) -> Tensor:
    r"""Return betas evenly spaced, :math:`\beta_t = 10^{-4}` to 0.02 for T = 1000.

    Ho, Jain and Abbeel, 2020, Denoising diffusion probabilistic models. Of fewer steps each is
    1000 / T times as large, and 0.999 at most, so that what they do together is much the same.

    Args:
        steps: T.
    """
    betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps
    return betas.clamp(max=_MOST)


def cosine(steps: int) -> Tensor:
    r"""Return betas of which :math:`\bar\alpha_t \propto \cos^2(\frac{t/T + s}{1 + s} \pi/2)`.

    With s = 0.008, and 0.999 at most. Nichol and Dhariwal, 2021, Improved denoising diffusion
    probabilistic models.

    Args:
        steps: T.
    """
    at = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    left = ((at + _OFFSET) / (1 + _OFFSET) * math.pi / 2).cos().square()
    return (1 - left[1:] / left[:-1]).clamp(max=_MOST)


def harmonic(steps: int) -> Tensor:
    r"""Return betas :math:`\beta_t = 1 / (T - t + 1)`: each step forgets 1 / T of the datum.

    Sohl-Dickstein et al., 2015, Deep unsupervised learning using nonequilibrium thermodynamics.
    The last state is noise alone.

    Args:
        steps: T.
    """
    return 1 / torch.arange(steps, 0, -1, dtype=torch.float64)


NOISES: dict[str, Callable[[int], Tensor]] = {
    "cosine": cosine,
    "harmonic": harmonic,
    "linear": linear,
}
"""Schedules by name: functions of T that return the T betas, in (0, 1]."""


class Scheduled(Corruption):
    r"""A corruption whose step t puts a share beta_t of noise in the place of the state.

    Args:
        steps: T.
        noise: Name of the schedule, in `NOISES`.
        event_dim: Number of dims of a datum.

    Attributes:
        beta: The shares, (T + 1,), 0 at t = 0.
        left: What is left of the datum, the products of 1 - beta, (T + 1,).

    Raises:
        ValueError: The name is unknown, or a share isn't in (0, 1].
    """

    beta: Tensor
    left: Tensor

    def __init__(self, steps: int, noise: str, event_dim: int) -> None:
        super().__init__()
        self.steps, self.event_dim = steps, event_dim
        betas = named("noise schedule", noise, NOISES)(steps).double()
        if betas.shape != (steps,) or not ((betas > 0) & (betas <= 1)).all():
            raise ValueError(f"the schedule {noise!r} must give {steps} shares in (0, 1]")
        beta = torch.cat([torch.zeros(1, dtype=torch.float64), betas])
        self.table("beta", beta)
        self.table("left", (1 - beta).cumprod(0))

    def table(self, name: str, values: Tensor) -> None:
        """Keep a value of each step, (T + 1,), which goes where the pair goes."""
        self.register_buffer(name, values, persistent=False)

    def at(self, table: Tensor, t: Tensor) -> Tensor:
        """Return the values of steps (*batch), to be broadcast with states (*batch, *shape)."""
        # A single step is looked up as one of a list: alone its number would be waited for.
        return table[t.reshape(-1)].reshape(*t.shape, *(1,) * self.event_dim)


class GaussianNoise(Scheduled):
    r"""Gaussian noise.

    .. math:: q(z_t \mid z_{t-1}) = N(\sqrt{1 - \beta_t} z_{t-1}, \beta_t), \quad
        q(z_t \mid x) = N(\sqrt{\bar\alpha_t} x, 1 - \bar\alpha_t), \quad
        q(z_{t-1} \mid z_t, x) = N\Big(\frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} x +
        \frac{\sqrt{1 - \beta_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} z_t, \tilde\beta_t\Big),
        \quad \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t

    Where beta-tilde is 0, at t = 1, that of t = 2 stands in its place.

    Args:
        steps: T.
        noise: Name of the schedule, in `NOISES`.
        event_dim: Number of dims of a datum.

    Raises:
        ValueError: As in `Scheduled`.

    Example:
        >>> noise = GaussianNoise(10, "cosine", 1)
        >>> noise.marginal(torch.zeros(5, 2), torch.tensor(3)).batch_shape
        torch.Size([5])
    """

    support = constraints.real
    signal: Tensor
    log_spread: Tensor
    keep: Tensor
    log_beta: Tensor
    log_tilde: Tensor
    of_datum: Tensor
    of_state: Tensor

    def __init__(self, steps: int, noise: str, event_dim: int) -> None:
        super().__init__(steps, noise, event_dim)
        beta, left = self.beta, self.left
        rest, before = 1 - left, torch.cat([left[:1], left[:-1]])
        tilde = beta * (1 - before) / rest.clamp(min=1e-300)
        tilde[1] = tilde[2] if steps > 1 else beta[1]
        self.table("signal", left.sqrt())
        self.table("log_spread", rest.log() / 2)
        self.table("keep", (1 - beta).sqrt())
        self.table("log_beta", beta.log())
        self.table("log_tilde", tilde.log())
        self.table("of_datum", before.sqrt() * beta / rest.clamp(min=1e-300))
        self.table("of_state", (1 - beta).sqrt() * (1 - before) / rest.clamp(min=1e-300))

    def normal(self, loc: Tensor, log_scale: Tensor) -> TorchDistribution:
        """Return a normal distribution of states (*batch, *shape)."""
        return IndependentNormal(loc, log_scale.expand_as(loc), self.event_dim)

    def step(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:  # noqa: ARG002
        """Return q(z_t | z_{t-1})."""
        return self.normal(self.at(self.keep, t) * z, self.at(self.log_beta, t) / 2)

    def marginal(self, x: Tensor, t: Tensor) -> TorchDistribution:
        """Return q(z_t | x)."""
        return self.normal(self.at(self.signal, t) * x, self.at(self.log_spread, t))

    def posterior(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:
        """Return q(z_{t-1} | z_t, x)."""
        return self.normal(self.between(z, t, x), self.at(self.log_tilde, t) / 2)

    def between(self, z: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """Return the mean of q(z_{t-1} | z_t, x), (*batch, *shape); at t = 1 it is x."""
        return self.at(self.of_datum, t) * x + self.at(self.of_state, t) * z


class BitFlips(Scheduled):
    r"""Bits that are replaced by fair coins.

    .. math:: q(z_t = 1 \mid z_{t-1}) = (1 - \beta_t) z_{t-1} + \beta_t / 2, \quad
        q(z_t = 1 \mid x) = \bar\alpha_t x + (1 - \bar\alpha_t) / 2, \quad
        q(z_{t-1} \mid z_t, x) \propto q(z_t \mid z_{t-1}) q(z_{t-1} \mid x)

    The binomial kernel of Sohl-Dickstein et al., 2015, Deep unsupervised learning using
    nonequilibrium thermodynamics.

    Args:
        steps: T.
        noise: Name of the schedule, in `NOISES`.
        event_dim: Number of dims of a datum.

    Raises:
        ValueError: As in `Scheduled`.

    Example:
        >>> flips = BitFlips(4, "harmonic", 1)
        >>> flips.marginal(torch.ones(1), torch.tensor(2)).mean
        tensor([0.7500], dtype=torch.float64)
    """

    support = constraints.boolean
    has_rsample = False

    def step(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:  # noqa: ARG002
        """Return q(z_t | z_{t-1})."""
        return self.bits(self.towards(z, self.at(1 - self.beta, t)))

    def marginal(self, x: Tensor, t: Tensor) -> TorchDistribution:
        """Return q(z_t | x)."""
        return self.bits(self.towards(x, self.at(self.left, t)))

    def posterior(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:
        """Return q(z_{t-1} | z_t, x), whose log-odds are a sum of those that z_t and x give."""
        return self.bits(self.posterior_odds(z, t, x))

    def posterior_odds(self, z: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """Return the log-odds of z_{t-1} given z_t and x, (*batch, *shape)."""
        of_state = self.towards(z, self.at(1 - self.beta, t))
        return of_state + self.towards(x, self.at(self.left, t - 1))

    def towards(self, bits: Tensor, kept: Tensor) -> Tensor:
        """Return the log-odds of a bit that is kept by some probability, and else a fair coin."""
        odds = ((1 + kept) / (1 - kept).clamp(min=1e-30)).log().clamp(max=_CERTAIN)
        return (2 * bits - 1) * odds

    def mixed(self, z: Tensor, t: Tensor, logits: Tensor) -> Tensor:
        r"""Return the log-odds of :math:`\sum_x \hat p(x) q(z_{t-1} \mid z_t, x)`.

        Args:
            z: States z_t, (*batch, *shape).
            t: Their steps, (*batch).
            logits: Log-odds of the datum's bits by p-hat, (*batch, *shape).
        """
        one, zero = (self.posterior_odds(z, t, torch.full_like(z, bit)) for bit in (1.0, 0.0))
        log_ones = torch.logaddexp(
            logsigmoid(logits) + logsigmoid(one), logsigmoid(-logits) + logsigmoid(zero)
        )
        log_zeros = torch.logaddexp(
            logsigmoid(logits) + logsigmoid(-one), logsigmoid(-logits) + logsigmoid(-zero)
        )
        return log_ones - log_zeros

    def bits(self, logits: Tensor) -> TorchDistribution:
        """Return a distribution of bits (*batch, *shape)."""
        return IndependentBernoulli(logits, self.event_dim)
