"""Why a bound is loose: because of the guide's family, or because one net serves all data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.ais import (
    CHAINS,
    annealed_log_likelihood,
    annealed_of,
    block_rows,
)
from priory.evaluation.likelihood.bound import log_likelihood
from priory.evaluation.likelihood.joint import Joint
from priory.evaluation.likelihood.quantity import likelihood_of
from priory.evaluation.record import Estimate, Kind
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, blocks, check, read, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import is_below_zero
from priory.inference.modules import device_of
from priory.inference.phases.phases import Phases

Family = Literal["auto", "mean-field", "full"]
_STREAM = 20
_RATE = 0.05
_SAMPLES = 1000  # behind the best local bound
_SMALLEST = 1e-4  # standard deviation to start from


class Gaps(NamedTuple):
    """The parts of a guide's looseness, per datum, each `(n,)`, in nats, float64, on the CPU.

    Args:
        log_likelihood: log p(x), by the better of annealing and the K-sample bound.
        local: the bound of the best Gaussian of each datum.
        elbo: the guide's bound.
        annealed: whether annealing was the better.
        family: of the local Gaussians: "mean-field" or "full".
    """

    log_likelihood: Tensor
    local: Tensor
    elbo: Tensor
    annealed: bool
    family: str

    @property
    def inference(self) -> Tensor:
        """What is lost in all: log p(x) minus the guide's bound."""
        return self.log_likelihood - self.elbo

    @property
    def approximation(self) -> Tensor:
        """What the family costs: log p(x) minus the best local bound."""
        return self.log_likelihood - self.local

    @property
    def amortisation(self) -> Tensor:
        """What sharing one net costs: the best local bound minus the guide's."""
        return self.local - self.elbo


def inference_gaps(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    steps: int = 1000,
    chains: int = CHAINS,
    particles: int = 1000,
    family: Family = "auto",
    seed: int = 0,
    annealed: Tensor | None = None,
) -> Gaps:
    r"""Split the gap of the guide's bound into an approximation gap and an amortisation gap.

    .. math:: \log p(x) - L[q] = \big(\log p(x) - L[q^*_x]\big) + \big(L[q^*_x] - L[q]\big)

    where q*_x is a Gaussian in the unconstrained latent, fitted to the datum alone by its bound, L.
    The truth is the better, on average, of annealed importance sampling and the K-sample bound;
    being a lower bound, it makes the first two gaps too small if anything. A local fit that has not
    converged makes the approximation gap too large and the amortisation gap too small. Where the
    guide's own family is richer than the Gaussian, the amortisation gap may be negative.

    Cremer, Li and Duvenaud 2018, Inference Suboptimality in Variational Autoencoders. The gradient
    is that of Roeder, Wu and Duvenaud 2017, Sticking the Landing.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        data: a split, columns by name, or an array of x.
        steps: annealing temperatures, and steps of each local fit.
        chains: of annealing, and samples in each step of the local fit.
        particles: importance samples K of the bounds.
        family: of the local Gaussians; "auto" is "full" where the guide draws a multivariate
            normal.
        seed: seed of all draws.
        annealed: log p(x) by annealing, if it is known already, `(n,)`.

    Raises:
        ValueError: if a count is not positive, the family is unknown, or the data are empty.
        Unavailable: if the latents are not continuous; see `Joint`.

    Example:
        >>> gaps = inference_gaps(pair.model, pair.guide, x, steps=10)
        >>> gaps.approximation.shape, gaps.amortisation.shape
        (torch.Size([12]), torch.Size([12]))
    """
    if family not in ("auto", "mean-field", "full"):
        raise ValueError(f"family must be 'auto', 'mean-field' or 'full', got {family!r}")
    columns = check(read(data))
    if annealed is None:
        annealed = annealed_log_likelihood(
            model, guide, columns, steps=steps, chains=chains, seed=seed
        ).log_likelihood
    bounds = log_likelihood(model, guide, columns, particles, seed)
    better = bool(annealed.mean() >= bounds.log_likelihood.mean())
    truth = annealed if better else bounds.log_likelihood
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    found: list[Tensor] = []
    full = family == "full"
    with sealed(model, guide, device=device):
        for start, part in blocks(columns, block_rows(columns, chains), like):
            reseed(device, seed, _STREAM, start)
            if family == "auto":
                full = _has_covariance(model, guide, part)
            joint = Joint(model, guide, part, chains)
            loc, tril = local_gaussian(joint, steps, full=full)
            found.append(_local_bound(joint, loc, tril).cpu())
    kind = "full" if full else "mean-field"
    return Gaps(truth, torch.cat(found), bounds.elbo, better, kind)


def local_gaussian(joint: Joint, steps: int, *, full: bool = False) -> tuple[Tensor, Tensor]:
    """Fit a Gaussian to the posterior of each datum by its bound, starting at the guide's moments.

    Args:
        joint: the densities.
        steps: of Adam, its rate falling from 0.05 to 0 by a cosine.
        full: whether the covariance is full, else diagonal.

    Returns:
        Means, `(rows, dim)`, and Cholesky factors, `(rows, dim, dim)`, in the unconstrained space.
    """
    draws = torch.cat([joint.recognised() for _ in range(-(-64 // joint.chains))])
    loc = draws.mean(0).requires_grad_()
    log_scale = draws.std(0).clamp(min=_SMALLEST).log().requires_grad_()
    lower = draws.new_zeros(*loc.shape, loc.shape[-1]).requires_grad_(full)
    parts = [loc, log_scale, lower] if full else [loc, log_scale]
    adam = torch.optim.Adam(parts, lr=_RATE)
    for t in range(steps):
        adam.param_groups[0]["lr"] = 0.5 * _RATE * (1 + math.cos(math.pi * t / steps))
        with torch.enable_grad():
            tril = _factor(log_scale, lower)
            noise = torch.randn_like(draws[: joint.chains])
            u = loc + torch.einsum("nij,cnj->cni", tril, noise)
            # The distribution's own parameters are held: the rest of the gradient is 0 at the best.
            fixed = dist.MultivariateNormal(loc.detach(), scale_tril=tril.detach())
            loss = (fixed.log_prob(u) - joint.log_density(u)).mean(0).sum()
            gradients = torch.autograd.grad(loss, parts)
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        adam.step()
    return loc.detach(), _factor(log_scale, lower).detach()


def _factor(log_scale: Tensor, lower: Tensor) -> Tensor:
    """Return the Cholesky factor that the parameters stand for; rows are scaled by the diagonal."""
    scale = log_scale.exp()
    return scale.unsqueeze(-1) * lower.tril(-1) + scale.diag_embed()


def _local_bound(joint: Joint, loc: Tensor, tril: Tensor) -> Tensor:
    """Average log p(x, u) - log q(u) over fresh draws, `(rows,)`."""
    distribution = dist.MultivariateNormal(loc, scale_tril=tril)
    total, rounds = loc.new_zeros(len(loc), dtype=torch.float64), -(-_SAMPLES // joint.chains)
    for _ in range(rounds):
        u = distribution.sample((joint.chains,))
        total += (joint.log_density(u) - distribution.log_prob(u)).double().mean(0)
    return total / rounds


def _has_covariance(model: Callable[..., Any], guide: Callable[..., Any], columns: Columns) -> bool:
    """Return whether the guide draws a single latent from a multivariate normal."""
    phase = Phases(model, guide, columns=columns).awake
    distributions = [phase.distribution(site) for site in phase.latents]
    wide = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)
    return len(distributions) == 1 and isinstance(distributions[0], wide)


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
    text = "negative: the guide's family is richer than the Gaussian, or more steps are needed"
    doubts = (Doubt(text, Remedy.SAMPLES),) if is_below_zero(values) else ()
    truth = "annealing" if _gaps(draws).annealed else f"the bound with K = {draws.particles}"
    return Estimate.mean(
        values,
        kind=kind,
        unit="nats",
        steps=draws.steps,
        note=f"{draws.quantity.name} by {truth}{note}",
        warnings=doubts,
    )


@once
def _gaps(draws: Draws) -> Gaps:
    return inference_gaps(
        draws.model,
        draws.guide,
        thin(draws.columns, draws.few),
        steps=draws.steps,
        particles=draws.particles,
        seed=draws.seed,
        annealed=annealed_of(draws).log_likelihood,
    )
