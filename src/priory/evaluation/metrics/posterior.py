"""Whether a guide is the posterior, and whether the pair could have given the data."""

from __future__ import annotations

import math

from priory.evaluation.draws import Draws
from priory.evaluation.posterior.calibration import ranks_of
from priory.evaluation.posterior.predictive import Predictive, adjusted, predictive
from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric
from priory.evaluation.sample_sets import Unavailable
from priory.evaluation.statistics import holm

_LEVEL = 0.05


@metric("posterior", "phase", better="lower")
def calibration(draws: Draws) -> Estimate:
    """Largest distance of the guide's ranks from uniform, on the model's own samples."""
    if not draws.phase.latents:
        raise Unavailable("the model has no latents")
    found = ranks_of(draws)
    n, dims = found.ranks.shape
    worst = int(found.distance.argmax())
    limit = math.sqrt(math.log(2 * dims / _LEVEL) / (2 * n))  # Massart 1990, by Bonferroni
    p, tilt = (float(holm(test).min()) for test in (found.chi_square, found.symmetry))
    note = (
        f"the worst of {dims} dimensions, {found.names[worst]}; an exact guide stays below "
        f"{limit:.3f} in 95 of 100 cases; p = {p:.2g} for uniform, {tilt:.2g} for symmetric "
        f"ranks; {found.levels} draws for each of {n} samples of the model, not of data"
    )
    return Estimate(
        float(found.distance[worst]),
        float(found.distance_error[worst]),
        n,
        "biased",
        note=note,
        warnings=found.words,
    )


@metric("posterior", "density")
def predictive_p(draws: Draws) -> Estimate:
    """Smallest p-value of the data's statistics among their posterior replicates'."""
    found = _predictive(draws)
    if not found.checks:
        raise Unavailable("no statistic of the data varies among their replicates")
    p = adjusted(found.checks)
    told = ", ".join(
        f"{check.name} {check.data:.4g} against {check.replicated:.4g} (p {value:.2g})"
        for check, value in zip(found.checks, p.tolist(), strict=True)
    )
    failed = [
        f"{check.name} differs by {abs(check.effect):.2g} sd"
        for check, value in zip(found.checks, p.tolist(), strict=True)
        if value < 0.01 and abs(check.effect) >= 0.1
    ]
    words = (f"the data are unlike their replicates: {', '.join(failed)}",) if failed else ()
    return Estimate(
        float(p.min()),
        None,
        len(found.p_values),
        "biased",
        note=f"of {len(p)} statistics, adjusted for their number; data against replicates: {told}; "
        "conservative: latents were inferred from the same data",
        warnings=words,
    )


@metric("posterior", "density", better="lower")
def predictive_outliers(draws: Draws) -> Estimate:
    """Share of data whose log p(x given z) is beyond that of all of their replicates."""
    found = _predictive(draws)
    return Estimate.share(
        (found.p_values < _LEVEL).double(),
        kind="biased",
        note=f"two-sided p below {_LEVEL}; the exact model has at most about that share",
    )


def _predictive(draws: Draws) -> Predictive:
    return draws.once("predictive", lambda: predictive(draws))
