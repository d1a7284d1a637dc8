"""Variational walkback: one operator that walks away from the data heated, and back as it cools."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from priory.distributions.chain import Forward
from priory.likelihoods import Likelihood
from priory.models.operator import Kernel, OperatorChain, Said
from priory.nets import TimedNet
from priory.posteriors.normal import limited


class VariationalWalkback(OperatorChain):
    r"""One transition operator both ways: heated it leads away from a datum, cooling back to it.

    .. math::
        z_T \sim N(b, d^2), \quad z_{t-1} \sim p_{\tau_t}(z_{t-1} \mid z_t), \quad
        x \sim p_{\tau_1}(x \mid z_1); \qquad z_t \sim p_{\tau_t}(z_t \mid z_{t-1}), \quad z_0 = x,

    .. math:: p_\tau(z' \mid z) = N((1 - \alpha) z + \alpha \mu(z, \tau),
        \; \alpha \sigma^2(z, \tau) \, \tau), \qquad \tau_t = f^{t - 1}

    Goyal, Ke, Ganguli and Bengio, 2017, Variational walkback: learning a transition operator as a
    stochastic recurrent net. Where the operator at each temperature is in detailed balance with
    its own equilibrium, the way back is the way out, and little of the bound is lost. The net reads
    log tau as its time, and starts at mu(z) = z, a random walk whose way back is exact. z_T has
    learned moments. Draws of normal states have gradients, so that `ELBO` trains the operator as
    the guide too; `Wake()` is the paper's update, by the way back alone, which would shrink a
    learned sigma for ever: give it a `deviation`.

    With `likelihood="bernoulli"` the states are bits, whose log-odds the temperature divides;
    before it is trained the operator puts a fair coin in the place of a share alpha of them.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        factor: f, by which a step away is hotter than the one before.
        alpha: The share of a state that the operator replaces.
        deviation: sigma, in the states' units, or "learned", from :math:`f^{-(T - 1) / 2}`.
        extra_steps: Further steps at temperature 1, of draws alone, before the datum.
        likelihood: Of a datum given z_1; "auto" takes the discretised normal where the training
            data lie on levels of [0, 1], else the normal.

    Raises:
        ValueError: A number is out of range, or a name is unknown.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair = VariationalWalkback(TimeMLP(8, 1), timesteps=4, factor=2.0)
        >>> pair.build(torch.randn(5, 2))
        >>> pair.temperature(torch.arange(1, 5)).flatten().tolist()
        [1.0, 2.0, 4.0, 8.0]
    """

    name = "variational-walkback"

    def __init__(
        self,
        net: TimedNet | str = "time-mlp",
        timesteps: int = 30,
        factor: float = 1.3,
        alpha: float = 0.5,
        deviation: float | str = "learned",
        extra_steps: int = 0,
        likelihood: Likelihood | str = "auto",
    ) -> None:
        super().__init__(net, timesteps, likelihood)
        if not 1 <= factor < math.inf:
            raise ValueError(f"factor must be at least 1, got {factor}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must lie above 0 and at most at 1, got {alpha}")
        fixed = isinstance(deviation, (int, float)) and 0 < deviation < math.inf
        if deviation != "learned" and not fixed:
            raise ValueError(f"deviation must be 'learned' or a positive number, got {deviation}")
        if extra_steps < 0:
            raise ValueError(f"extra_steps must not be negative, got {extra_steps}")
        if self.of_bits and fixed:
            raise ValueError("bits have no deviation: leave it at 'learned'")
        self.factor, self.alpha, self.deviation = factor, alpha, deviation
        self.extra_steps = extra_steps

    @property
    def hottest(self) -> float:
        """The logarithm of tau_T."""
        return (self.timesteps - 1) * math.log(self.factor)

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the net, and z_T's moments, at first those of the random walk from the data."""
        super().make(x, y)
        maps = self.head.bias(x)
        assert maps is not None  # noqa: S101
        if self.of_bits:
            self.end = nn.Parameter(torch.zeros_like(maps))
            return
        t = torch.arange(1, self.timesteps + 1, device=x.device)
        walked = (2 * self._log_scale(t.double())).exp().sum()
        spread = ((2 * maps[1]).exp() + walked.to(x)).log() / 2
        self.end = nn.Parameter(torch.stack([maps[0], spread]))

    def _log_scale(self, t: Tensor) -> Tensor:
        """Return the log standard deviation of steps t where the net says nothing."""
        fixed = None if isinstance(self.deviation, str) else math.log(self.deviation)
        own = -self.hottest / 2 if fixed is None else fixed
        return own + (math.log(self.alpha) + (t - 1) * math.log(self.factor)) / 2

    def temperature(self, t: Tensor) -> Tensor:
        """Return tau_t, to be broadcast with states (*batch, *shape)."""
        tau = torch.exp((t - 1).to(self.zeros) * math.log(self.factor))
        return tau.reshape(*t.shape, *(1,) * self.zeros.dim())

    def start(self) -> TorchDistribution:
        """Return p(z_T)."""
        return self.states(*self.end)

    def moved(self, said: Said, z: Tensor, t: Tensor) -> TorchDistribution:
        """Return the operator at tau_t."""
        time = (t - 1).to(z) * (math.log(self.factor) / max(self.hottest, 1e-12))
        maps = self.maps(said, z, time)
        if self.of_bits:
            kept = math.log(2 / self.alpha - 1)
            return self.states((maps[0] + (2 * z - 1) * kept) / self.temperature(t))
        mean = z + self.alpha * maps[0]
        steps = t.to(z).reshape(*t.shape, *(1,) * self.zeros.dim())
        own = self._log_scale(steps)
        learned = limited(maps[1]) if isinstance(self.deviation, str) else torch.zeros_like(mean)
        return self.states(mean, own + learned)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", Forward(_Away(self), self.head.scaled(x), self.zeros.dim()))

    def descend(self, z: Tensor, *given: Tensor) -> Iterator[Tensor]:  # noqa: ARG002
        """Yield draws of z_T, ..., z_1, the first of which is given; z_1 after the extra steps."""
        for place, state in enumerate(self._cooled(z, self.extra_steps), 1):
            if place < self.timesteps:
                yield state
        yield state

    def _cooled(self, z: Tensor, extra: int) -> Iterator[Tensor]:
        """Yield draws of z_T, ..., z_1, and the states of further steps at temperature 1."""
        for state in super().descend(z):
            yield state
        for _ in range(extra):
            state = self.transition(state, self._ones(z))()
            yield state

    @torch.no_grad()
    def way(self, n: int, steps: int | None = None) -> Iterator[Tensor]:
        """Yield the states of n ways to the datum, (n, *shape) each, z_T first, x last.

        Args:
            n: Number of ways.
            steps: From z_T to x; those beyond T are at temperature 1. T and `extra_steps` if None.

        Raises:
            ValueError: There are fewer than T.
        """
        extra = self.extra_steps if steps is None else steps - self.timesteps
        if extra < 0:
            raise ValueError(
                f"the way back has {self.timesteps} steps at least, got {steps}: those beyond are "
                "at temperature 1"
            )
        for z in self._cooled(self.start().expand((n,))(), extra):
            yield self.unscaled(z)
        yield self.observe(self.transition(z, self._ones(z)))()


class _Away(Kernel):
    """The operator as the guide: the way out, hotter at every step.

    Args:
        pair: Whose.
    """

    pair: VariationalWalkback

    def __init__(self, pair: VariationalWalkback) -> None:
        super().__init__(pair)
        self.steps, self.has_rsample = pair.timesteps, not pair.of_bits
        self.support: Any = constraints.boolean if pair.of_bits else constraints.real

    def step(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:  # noqa: ARG002
        """Return q(z_t | z_{t-1}), the operator at tau_t."""
        return self.pair.moved(self.said, z, t)
