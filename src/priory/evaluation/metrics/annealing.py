"""What annealing tells: how tight a bound is, and why it is loose. Slow, on a few rows."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.likelihood.ais import CHAINS, Annealed, annealed_log_likelihood
from priory.evaluation.likelihood.bidirectional import bidirectional
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.posterior.gap import Gaps, inference_gaps
from priory.evaluation.record import Estimate, Kind
from priory.evaluation.registry import likelihood_of, metric
from priory.evaluation.rows import Columns, thin

_LEAST_CHAINS = 2.0
_LEAST_ACCEPTANCE = 0.4
_DOUBTFUL = 0.1  # share of the data above which a warning is given
_HOW = f"{CHAINS} chains from the prior, Hamiltonian transitions tuned in a pilot run, then frozen"


@metric("likelihood", "density", better="lower", slow=True, quantity=likelihood_of)
def ais(draws: Draws) -> Estimate:
    """Negative log likelihood of a few rows by annealed importance sampling."""
    found, bounds = _annealed(draws), _bounds(draws)
    gain = found.log_likelihood - bounds.log_likelihood
    doubts = _doubts(found.ess, found.acceptance)
    if _below_zero(gain):
        doubts += ("looser than the K-sample bound on the same rows: take more steps",)
    shift = draws.log_scale
    nll = shift - float(bounds.log_likelihood.mean())
    return Estimate.mean(
        shift - found.log_likelihood,
        kind="upper bound",
        unit="nats",
        steps=draws.steps,
        note=f"{_HOW}; the bound with K = {draws.particles} is {nll:.2f} on the same rows",
        warnings=doubts,
    )


@metric("likelihood", "density", better="lower", slow=True, quantity=likelihood_of)
def bdmc(draws: Draws) -> Estimate:
    """Bound on the mean error of annealing: reverse less forward estimate, on own samples."""
    found = bidirectional(draws.model, draws.guide, _few(draws), steps=draws.steps, seed=draws.seed)
    low, high = (float(part.mean()) - draws.log_scale for part in (found.lower, found.upper))
    return Estimate.mean(
        found.upper - found.lower,
        kind="upper bound",
        unit="nats",
        steps=draws.steps,
        note=f"{draws.quantity.name} of the samples lies between {low:.2f} and {high:.2f} on "
        f"average; {_HOW}",
        warnings=_doubts(found.ess, None),
    )


@metric("posterior", "density", better="lower", slow=True, quantity=likelihood_of)
def inference_gap(draws: Draws) -> Estimate:
    """Mean of log p(x) less the guide's bound, on a few rows."""
    gaps = _gaps(draws)
    return _gap(draws, gaps.inference, "lower bound", "")


@metric("posterior", "density", better="lower", slow=True, quantity=likelihood_of)
def approximation_gap(draws: Draws) -> Estimate:
    """Part of the inference gap that the Gaussian family costs, with a best member for each row."""
    gaps = _gaps(draws)
    note = f"; a {gaps.family} Gaussian in the unconstrained latent, fitted to each row"
    return _gap(draws, gaps.approximation, "biased", note)


@metric("posterior", "density", better="lower", slow=True, quantity=likelihood_of)
def amortisation_gap(draws: Draws) -> Estimate:
    """Part of the inference gap that sharing one net among all data costs."""
    gaps = _gaps(draws)
    return _gap(draws, gaps.amortisation, "lower bound", "")


def _gap(draws: Draws, values: Tensor, kind: Kind, note: str) -> Estimate:
    doubts: tuple[str, ...] = ()
    if _below_zero(values):
        doubts = (
            "negative: the guide's family is richer than the Gaussian, or more steps are needed",
        )
    truth = "annealing" if _gaps(draws).annealed else f"the bound with K = {draws.particles}"
    return Estimate.mean(
        values,
        kind=kind,
        unit="nats",
        steps=draws.steps,
        note=f"{draws.quantity.name} by {truth}{note}",
        warnings=doubts,
    )


def _below_zero(values: Tensor) -> bool:
    """Say whether a mean over data is negative by more than three standard errors."""
    return len(values) > 1 and bool(values.mean() < -3 * values.std() / len(values) ** 0.5)


def _few(draws: Draws) -> Columns:
    return thin(draws.columns, draws.few)


def _annealed(draws: Draws) -> Annealed:
    def make() -> Annealed:
        return annealed_log_likelihood(
            draws.model, draws.guide, _few(draws), steps=draws.steps, seed=draws.seed
        )

    return draws.once("annealed", make)


def _bounds(draws: Draws) -> Bounds:
    def make() -> Bounds:
        return log_likelihood(draws.model, draws.guide, _few(draws), draws.particles, draws.seed)

    return draws.once("bounds of a few", make)


def _gaps(draws: Draws) -> Gaps:
    def make() -> Gaps:
        return inference_gaps(
            draws.model,
            draws.guide,
            _few(draws),
            steps=draws.steps,
            particles=draws.particles,
            seed=draws.seed,
            annealed=_annealed(draws).log_likelihood,
        )

    return draws.once("gaps", make)


def _doubts(ess: Tensor, acceptance: Tensor | None) -> tuple[str, ...]:
    """Say in words why annealing may be far from log p(x)."""
    found = []
    poor = float((ess < _LEAST_CHAINS).double().mean())
    if poor > _DOUBTFUL:
        found.append(
            f"{poor:.0%} of the data have fewer than {_LEAST_CHAINS:.0f} effective chains of "
            f"{CHAINS}: take more steps"
        )
    if acceptance is not None:
        stuck = float((acceptance < _LEAST_ACCEPTANCE).double().mean())
        if stuck > _DOUBTFUL:
            found.append(f"{stuck:.0%} of the data accept fewer than 4 in 10 transitions")
    return tuple(found)
