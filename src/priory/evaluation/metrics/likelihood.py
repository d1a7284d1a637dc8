"""How well a pair explains data: the bound on log p(x), and how far to trust it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.likelihood.bits import bits_per_dim as bits_of
from priory.evaluation.likelihood.bits import level_spacing
from priory.evaluation.likelihood.bound import Bounds
from priory.evaluation.likelihood.conditional import conditional_log_likelihood
from priory.evaluation.likelihood.imputation import missing_log_likelihood
from priory.evaluation.likelihood.pareto import THRESHOLD, tail_length
from priory.evaluation.record import Estimate, Kind
from priory.evaluation.registry import check_finite, likelihood_of, metric
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import Unavailable
from priory.inference.phases.sites import is_discrete

_FEW_EFFECTIVE = 10
_DOUBTFUL = 0.1  # share of the data above which a warning is given
_STREAM = 15


@metric("likelihood", "density", "log_weight", better="lower", quantity=likelihood_of)
def nll(draws: Draws) -> Estimate:
    """Negative log likelihood, by the K-sample bound; exact where there are no latents."""
    exact = not draws.density.latents
    return Estimate.mean(
        -draws.log_weight.log_likelihood,
        kind="exact" if exact else "upper bound",
        unit="nats",
        particles=None if exact else draws.particles,
        warnings=_doubts(draws),
    )


@metric("likelihood", "density", "log_weight", better="higher", quantity=likelihood_of)
def elbo(draws: Draws) -> Estimate:
    """Evidence lower bound, from the same log weights."""
    return Estimate.mean(
        draws.log_weight.elbo,
        kind="lower bound",
        unit="nats",
        particles=draws.particles,
        note=f"bounds {draws.quantity.name}; averaged over the K samples of each datum",
    )


@metric("likelihood", "density", "log_weight", quantity=likelihood_of)
def ess(draws: Draws) -> Estimate:
    """Effective share of the K importance samples: how far to trust the nll."""
    _sampled(draws)
    return Estimate.mean(
        draws.log_weight.ess / draws.particles,
        kind="biased",
        particles=draws.particles,
        note="effective share of the K samples",
        warnings=_doubts(draws),
    )


@metric("likelihood", "density", "log_weight", better="lower", quantity=likelihood_of)
def khat(draws: Draws) -> Estimate:
    """Share of the data whose importance weights have a tail too heavy to trust the nll."""
    _sampled(draws)
    if not tail_length(draws.particles):
        raise Unavailable(
            f"K = {draws.particles} samples are too few for a tail: k-hat needs at least 21"
        )
    check_finite("log weights", draws.log_weight.log_likelihood.unsqueeze(1))
    values = draws.log_weight.khat
    return Estimate.share(
        (values > THRESHOLD).double(),
        kind="biased",
        particles=draws.particles,
        note=f"k-hat above {THRESHOLD}; its median {values.median():.2f}, its largest "
        f"{values.max():.2f}",
    )


@metric("likelihood", "density", "x", "log_weight", better="lower")
def bits_per_dim(draws: Draws) -> Estimate:
    """Negative log likelihood in bits per dimension: of a mass, or of a density times a level."""
    observed = draws.density.observed
    if observed != ("x",):
        raise Unavailable(f"the nll is of {', '.join(observed)} together, not of x alone")
    distribution, features, note = (
        draws.density.distribution("x", of="model"),
        draws.x[0].numel(),
        "",
    )
    kind: Kind = "upper bound" if draws.density.latents else "exact"
    spacing, warnings = 1.0, _doubts(draws)
    x = draws.x if draws.units is None else draws.units.own(draws.x).float()
    if not is_discrete(distribution):
        found = level_spacing(x)
        if found is None:
            raise Unavailable(
                "x has a density and lies on no levels, evenly spaced: a density alone has no bits"
            )
        spacing, kind = found, "biased"
        note = f"; density times the levels' distance {_distance(spacing)}"
        warnings += (
            "a density on discrete levels: what stands for a level's mass is no bound on it",
        )
    return Estimate.mean(
        bits_of(-draws.log_weight.log_likelihood, features, spacing),
        kind=kind,
        unit="bits",
        particles=draws.particles if draws.density.latents else None,
        note=f"over {features} features{note}",
        warnings=warnings,
    )


def _distance(spacing: float) -> str:
    """Write the levels' distance, as 1/L where it is."""
    levels = 1 / spacing
    whole = round(levels) > 1 and abs(levels - round(levels)) < 1e-4 * levels
    return f"1/{levels:.0f}" if whole else f"{spacing:.6g}"


@metric("likelihood", "density", "x", "log_weight", better="lower", slow=True)
def conditional_nll(draws: Draws) -> Estimate:
    """Negative log likelihood of x given the labels or whatever else the model knows of a datum."""
    found = conditional_log_likelihood(
        draws.model,
        draws.guide,
        draws.columns,
        particles=draws.particles,
        seed=draws.seed,
        joint=draws.log_weight.log_likelihood,
    )
    given, seen = ", ".join(found.given), ", ".join(found.observed)
    note = f"-log p(x | {given})"
    if seen:
        how = "exact" if found.exact else f"estimated by {draws.particles} draws from the prior"
        note += f", log p({seen}) {how} and taken off"
    mean = Estimate.mean(
        -found.log_likelihood,
        kind="upper bound" if found.exact else "biased",
        unit="nats",
        particles=draws.particles,
        note=note,
        warnings=_doubts(draws),
    )
    return replace(mean, quantity=str(draws.quantity.only(("x",), found.given)))


@metric("likelihood", "density", "x", better="lower", slow=True)
def imputation_nll(draws: Draws) -> Estimate:
    """Negative log likelihood of the half of x that is hidden, given the half that is shown."""
    columns = thin(draws.columns, draws.few)
    mask, which = half_shown(columns["x"], draws.seed)
    found = missing_log_likelihood(
        draws.model, draws.guide, columns, mask, particles=draws.particles, seed=draws.seed
    )
    hidden = int((~mask[0]).sum())
    values = -found.log_likelihood
    if draws.units is not None and draws.quantity.is_density:
        values = values + rows_of(~mask).double() @ draws.units.scale.log()
    mean = Estimate.mean(
        values,
        kind="biased",
        unit="nats",
        particles=draws.particles,
        note=f"{which}: {hidden} of {mask[0].numel()} features; a difference of two K-sample "
        "bounds, exact as K grows",
        warnings=_doubts_of(found, draws.particles),
    )
    return replace(mean, quantity=f"of hidden features, of {draws.quantity}")


def half_shown(x: Tensor, seed: int) -> tuple[Tensor, str]:
    """Return a mask that shows half of each datum, and which half it hides, in words.

    Args:
        x: data, `(n, *shape)`: of images the upper half of the lines is shown, of vectors half of
            the features, drawn for each datum.
        seed: seed of the draw.

    Raises:
        Unavailable: if there is only one feature.
    """
    if x[0].numel() < 2:
        raise Unavailable("x has one feature: there is no half to hide")
    if x.dim() > 2 and x.shape[-2] > 1:
        lines = torch.arange(x.shape[-2]) < (x.shape[-2] + 1) // 2
        return lines.unsqueeze(-1).expand(x.shape), "the lower half is hidden"
    stream = torch.Generator().manual_seed(seed * 100 + _STREAM)
    order = torch.rand(len(x), x[0].numel(), generator=stream).argsort(1)
    return (order >= x[0].numel() // 2).reshape(x.shape), "a random half is hidden in each datum"


def _sampled(draws: Draws) -> None:
    if not draws.density.latents:
        raise Unavailable("the model has no latents: log p(x) is exact, nothing is sampled")


def _doubts(draws: Draws) -> tuple[str, ...]:
    """Say in words why the K-sample bound may be far from log p(x)."""
    return _doubts_of(draws.log_weight, draws.particles) if draws.density.latents else ()


def _doubts_of(bounds: Bounds, particles: int) -> tuple[str, ...]:
    found = []
    heavy = float((bounds.khat > THRESHOLD).double().mean())
    if heavy > _DOUBTFUL:
        found.append(
            f"{heavy:.0%} of the data have k-hat above {THRESHOLD}: the bound may be loose there, "
            "and a larger K helps little"
        )
    poor = float((bounds.ess < _FEW_EFFECTIVE).double().mean())
    if particles > _FEW_EFFECTIVE and poor > _DOUBTFUL:
        found.append(
            f"{poor:.0%} of the data have fewer than {_FEW_EFFECTIVE} effective samples: take a "
            "larger K"
        )
    return tuple(found)
