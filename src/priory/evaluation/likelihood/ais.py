"""Annealed importance sampling of log p(x)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.likelihood.hmc import (
    FIRST_STEP,
    LEAPFROGS,
    LogDensity,
    State,
    adapted,
    transition,
)
from priory.evaluation.likelihood.joint import Joint
from priory.evaluation.likelihood.quantity import likelihood_of
from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, blocks, check, read, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import is_below_zero
from priory.inference.modules import device_of

Initial = Literal["prior", "guide"]
SHARPNESS = 4.0
CHAINS = 16
HOW = f"{CHAINS} chains from the prior, Hamiltonian transitions tuned in a pilot run, then frozen"
_STREAM = 10
_PILOTS = 4  # chains of the pilot run
_SMOOTH = 0.05  # share of the schedule over which a step size is averaged
_VALUES = 2**22  # numbers of one array
_LEAST_CHAINS = 2.0
_LEAST_ACCEPTANCE = 0.4
_DOUBTFUL = 0.1  # share of the data above which a warning is given


class Annealed(NamedTuple):
    """Bounds on log p(x) by annealing, one per datum, each `(n,)`, float64, on the CPU.

    Args:
        log_likelihood: lower bound in nats, in expectation over the run's randomness.
        ess: effective number of chains, between 1 and `chains`.
        acceptance: mean acceptance of the transitions.
    """

    log_likelihood: Tensor
    ess: Tensor
    acceptance: Tensor


def schedule(steps: int, sharpness: float = SHARPNESS) -> Tensor:
    r"""Return the inverse temperatures from 0 to 1, dense at both ends, `(steps + 1,)`.

    .. math:: \beta_t = \frac{s_t - s_0}{s_T - s_0}, \quad
        s_t = \sigma\big(\delta (2 t / T - 1)\big)

    Wu, Burda, Salakhutdinov and Grosse 2017, On the Quantitative Analysis of Decoder-Based
    Generative Models, with delta = 4.

    Args:
        steps: the number T of steps.
        sharpness: the delta; towards 0 the schedule is linear.

    Raises:
        ValueError: if either is not positive.

    Example:
        >>> schedule(2)
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    if steps < 1 or not sharpness > 0:
        raise ValueError(f"steps and sharpness must be positive, got {steps} and {sharpness}")
    at = torch.linspace(-sharpness, sharpness, steps + 1, dtype=torch.float64).sigmoid()
    return (at - at[0]) / (at[-1] - at[0])


def annealed_log_likelihood(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    steps: int = 1000,
    chains: int = CHAINS,
    initial: Initial = "prior",
    leapfrogs: int = LEAPFROGS,
    sharpness: float = SHARPNESS,
    seed: int = 0,
) -> Annealed:
    r"""Bound log p(x) of each datum by annealed importance sampling with Hamiltonian transitions.

    .. math:: f_t(z) = p_0(z)^{1 - \beta_t} \, p(x, z)^{\beta_t}, \quad
        \log w = \sum_t \log f_t(z_{t-1}) - \log f_{t-1}(z_{t-1}), \quad
        \log \frac{1}{C} \sum_c w_c

    where p_0 is the prior or the guide. A pilot run of few chains tunes the step size of each datum
    at each temperature to an acceptance of 0.65; the measured run keeps these frozen, so that w is
    an unbiased estimate of p(x), and its logarithm a lower bound in expectation.

    Neal 2001, Annealed Importance Sampling; Wu, Burda, Salakhutdinov and Grosse 2017, On the
    Quantitative Analysis of Decoder-Based Generative Models.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        data: a split, columns by name, or an array of x.
        steps: temperatures T.
        chains: C for each datum.
        initial: the distribution that the chains start from.
        leapfrogs: of each transition.
        sharpness: of the schedule; see `schedule`.
        seed: seed of all draws.

    Raises:
        ValueError: if a count is not positive, or the data are empty, NaN or infinite.
        Unavailable: if the latents cannot be moved by gradients; see `Joint`.

    Example:
        >>> found = annealed_log_likelihood(pair.model, pair.guide, x, steps=10)
        >>> found.log_likelihood.shape, found.log_likelihood.dtype
        (torch.Size([12]), torch.float64)
    """
    columns = check(read(data))
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    found = []
    with sealed(model, guide, device=device):
        for start, part in blocks(columns, block_rows(columns, chains), like):
            reseed(device, seed, _STREAM, start)
            path = Path(model, guide, part, steps, initial, leapfrogs, sharpness)
            found.append(path.forward(chains))
    return Annealed(*(torch.cat(column).cpu() for column in zip(*found, strict=True)))


class Path:
    """The way from an initial distribution to a posterior, its step sizes tuned by a pilot run.

    To be used inside `sealed`, with the random stream started.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: the batch, on the pair's device.
        steps: temperatures T.
        initial: the distribution at the beginning.
        leapfrogs: of each transition.
        sharpness: of the schedule.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        columns: Columns,
        steps: int,
        initial: Initial = "prior",
        leapfrogs: int = LEAPFROGS,
        sharpness: float = SHARPNESS,
    ) -> None:
        if initial not in ("prior", "guide"):
            raise ValueError(f"initial must be 'prior' or 'guide', got {initial!r}")
        if leapfrogs < 1:
            raise ValueError(f"leapfrogs must be at least 1, got {leapfrogs}")
        self.model, self.guide, self.columns = model, guide, columns
        self.betas = [float(b) for b in schedule(steps, sharpness)]
        self.initial, self.leapfrogs = initial, leapfrogs
        self.sizes = self._pilot()

    def forward(self, chains: int) -> Annealed:
        """Anneal from the initial distribution: a lower bound on log p(x).

        Args:
            chains: for each datum.
        """
        joint = Joint(self.model, self.guide, self.columns, chains)
        u = self._start(joint)
        log_w = u.new_zeros(u.shape[:2], dtype=torch.float64)
        accepted = u.new_zeros(u.shape[1:2])
        for t in range(1, len(self.betas)):
            log_w += self._gain(joint, u, t)
            if t < len(self.betas) - 1:
                u, rate = self._move(joint, u, t)
                accepted += rate.mean(0)
        return self._result(log_w, accepted, 1.0)

    def reverse(self, chains: int, exact: dict[str, Tensor]) -> Annealed:
        """Anneal back from a draw of the exact posterior: an upper bound on log p(x).

        The chains of a datum share their start: the mean of 1 / w is unbiased all the same.

        Args:
            chains: for each datum.
            exact: latents by site, drawn from p(z | x).
        """
        joint = Joint(self.model, self.guide, self.columns, chains)
        u = joint.of(exact)
        log_w = u.new_zeros(u.shape[:2], dtype=torch.float64)
        accepted = u.new_zeros(u.shape[1:2])
        for t in range(len(self.betas) - 1, 0, -1):
            if t < len(self.betas) - 1:
                u, rate = self._move(joint, u, t)
                accepted += rate.mean(0)
            log_w += self._gain(joint, u, t)
        return self._result(log_w, accepted, -1.0)

    def _pilot(self) -> Tensor:
        """Return the step sizes of each datum at each temperature, `(steps - 1, rows)`."""
        joint = Joint(self.model, self.guide, self.columns, _PILOTS)
        u = self._start(joint)
        size, found = u.new_full(u.shape[1:2], FIRST_STEP), []
        for t in range(1, len(self.betas) - 1):
            state = State.at(self._density(joint, t), u)
            rounds = 5 if t == 1 else 1  # the first step size is a guess
            for again in range(rounds):
                state, rate = transition(self._density(joint, t), state, size, self.leapfrogs)
                size = adapted(size, rate, t - 1 + again)
            u = state.u
            found.append(size)
        return _smoothed(torch.stack(found)) if found else u.new_zeros(0, len(size))

    def _start(self, joint: Joint) -> Tensor:
        return joint.prior() if self.initial == "prior" else joint.recognised()

    def _ends(self, joint: Joint, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the initial distribution, and of the joint over it."""
        prior, likelihood = joint.densities(u)
        if self.initial == "prior":
            return prior, likelihood
        first = joint.guide_density(u)
        return first, prior + likelihood - first

    def _density(self, joint: Joint, t: int) -> LogDensity:
        def density(u: Tensor) -> Tensor:
            first, ratio = self._ends(joint, u)
            return first + self.betas[t] * ratio

        return density

    def _gain(self, joint: Joint, u: Tensor, t: int) -> Tensor:
        ratio = self._ends(joint, u)[1].double()
        return (self.betas[t] - self.betas[t - 1]) * ratio

    def _move(self, joint: Joint, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        density = self._density(joint, t)
        state = State.at(density, u)
        state, rate = transition(density, state, self.sizes[t - 1], self.leapfrogs)
        return state.u, rate

    def _result(self, log_w: Tensor, accepted: Tensor, sign: float) -> Annealed:
        """Average the weights of a datum's chains, or their inverses where the sign is -1."""
        signed = sign * log_w
        moves = max(1, len(self.betas) - 2)
        mean = signed.logsumexp(0) - math.log(len(signed))
        ess = (2 * signed.logsumexp(0) - (2 * signed).logsumexp(0)).exp()
        return Annealed(sign * mean, ess, accepted.double() / moves)


def block_rows(columns: Columns, chains: int) -> int:
    """Return how many rows are annealed at a time, so that memory does not grow with them.

    Args:
        columns: the data.
        chains: for each datum.
    """
    if chains < 1:
        raise ValueError(f"chains must be at least 1, got {chains}")
    values = max(128, *(c[0].numel() for c in columns.values()))
    return max(1, _VALUES // (values * chains))


def _smoothed(sizes: Tensor) -> Tensor:
    """Average the logarithms of step sizes over neighbouring temperatures."""
    reach = int(_SMOOTH * len(sizes) / 2)
    if not reach:
        return sizes
    total = torch.cat([torch.zeros_like(sizes[:1]), sizes.log()]).cumsum(0)
    at = torch.arange(len(sizes), device=sizes.device)
    low, high = (at - reach).clamp(min=0), (at + reach + 1).clamp(max=len(sizes))
    return ((total[high] - total[low]) / (high - low).unsqueeze(-1)).exp()


@metric("likelihood", "density", better="lower", slow=True, quantity=likelihood_of)
def ais(draws: Draws) -> Estimate:
    """Negative log likelihood of a few rows by annealed importance sampling."""
    shift = draws.log_scale
    found, bounds = annealed_of(draws), _bounds(draws)
    gain = found.log_likelihood - bounds.log_likelihood
    doubts = chain_doubts(found.ess, found.acceptance)
    if is_below_zero(gain):
        text = "looser than the K-sample bound on the same rows: take more steps"
        doubts += (Doubt(text, Remedy.SAMPLES),)
    nll = shift - float(bounds.log_likelihood.mean())
    return Estimate.mean(
        shift - found.log_likelihood,
        kind="upper bound",
        unit="nats",
        steps=draws.steps,
        note=f"{HOW}; the bound with K = {draws.particles} is {nll:.2f} on the same rows",
        warnings=doubts,
    )


@once
def annealed_of(draws: Draws) -> Annealed:
    """Return the annealing of a pair's few rows, made once.

    Args:
        draws: of the pair.
    """
    few = thin(draws.columns, draws.few)
    return annealed_log_likelihood(
        draws.model, draws.guide, few, steps=draws.steps, seed=draws.seed
    )


@once
def _bounds(draws: Draws) -> Bounds:
    few = thin(draws.columns, draws.few)
    return log_likelihood(draws.model, draws.guide, few, draws.particles, draws.seed)


def chain_doubts(ess: Tensor, acceptance: Tensor | None = None) -> tuple[Doubt, ...]:
    """Say why annealing may be far from log p(x), if it may.

    Args:
        ess: effective number of each datum's chains, `(n,)`.
        acceptance: of their transitions, `(n,)`, if it is known.
    """
    found = []
    poor = float((ess < _LEAST_CHAINS).double().mean())
    if poor > _DOUBTFUL:
        text = (
            f"{poor:.0%} of the data have fewer than {_LEAST_CHAINS:.0f} effective chains of "
            f"{CHAINS}: take more steps"
        )
        found.append(Doubt(text, Remedy.SAMPLES))
    if acceptance is not None:
        stuck = float((acceptance < _LEAST_ACCEPTANCE).double().mean())
        if stuck > _DOUBTFUL:
            text = f"{stuck:.0%} of the data accept fewer than 4 in 10 transitions"
            found.append(Doubt(text, Remedy.SAMPLES))
    return tuple(found)
