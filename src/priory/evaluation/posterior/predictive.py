"""Posterior predictive checks: whether the model would have given data like these."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import place, rows_of, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import holm
from priory.inference.phases.phases import Phases

ROWS = 500
REPLICATES = 40  # so that a datum beyond all of them has a two-sided p of 2 / 41 < 0.05
_STREAM, _SHOWN = 26, 27
DISCREPANCY = "log p(x | z)"
_LEVEL = 0.05


class Check(NamedTuple):
    """One statistic of the data beside that of their replicates.

    Args:
        name: what the statistic is.
        data: its mean over the rows.
        replicated: its mean over the rows' replicates.
        effect: their difference in standard deviations of the statistic over the rows; 0 where it
            does not vary.
        p: two-sided p-value of the mean over the rows.
    """

    name: str
    data: float
    replicated: float
    effect: float
    p: float


class Predictive(NamedTuple):
    """Posterior predictive checks of some rows.

    Args:
        checks: one for each statistic.
        p_values: each datum's two-sided p of its log p(x | z), `(rows,)`.
    """

    checks: tuple[Check, ...]
    p_values: Tensor


def row_statistics(x: Tensor, zeros: bool = True) -> dict[str, Tensor]:
    """Return what is compared of each row: mean, sd, least and greatest value, share of zeros.

    Args:
        x: `(n, *shape)`; rows of a single feature have their mean alone, and the share of zeros.
        zeros: whether to give the share of zeros.

    Returns:
        By name, `(n,)`, float64.
    """
    flat = rows_of(x).double()
    found = {"mean": flat.mean(1)}
    if flat.shape[1] > 1:
        found |= {"sd": flat.std(1, correction=0), "min": flat.amin(1), "max": flat.amax(1)}
    if zeros:
        found["zeros"] = (flat == 0).double().mean(1)
    return found


def compare_replicates(name: str, data: Tensor, replicated: Tensor) -> Check | None:
    r"""Compare a statistic's mean over rows with its distribution under the posterior predictive.

    .. math:: \Delta_s = \frac{1}{n} \sum_i T(x_i^s, z_i^s) - T(x_i, z_i^s), \quad
        p = 2 \min(P(\Delta > 0), P(\Delta < 0))

    The distribution of the mean over many rows is taken to be normal, its variance estimated row by
    row, so that small p-values need no more replicates. As the latents were inferred from the same
    data, p-values are conservative: nearer to 1/2 than uniform.

    Gelman, Meng and Stern 1996, Posterior predictive assessment of model fitness via realized
    discrepancies.

    Args:
        name: what the statistic is.
        data: T(x_i, z_i^s), `(replicates, n)`.
        replicated: T(x_i^s, z_i^s), `(replicates, n)`.

    Returns:
        The comparison; `None` if the statistic is the same in all data and replicates.
    """
    difference = (replicated - data).double()
    count, n = difference.shape
    centre = float(difference.mean())
    variance = float(difference.var(0).sum()) / n**2 * (1 + 1 / count)
    if variance == 0.0 and centre == 0.0:
        return None
    z = math.inf if variance == 0.0 else abs(centre) / math.sqrt(variance)
    spread = float(data.double().mean(0).std(correction=0))
    effect = centre / spread if spread > 0 else 0.0
    from scipy import stats

    p = float(2 * stats.norm.sf(z))
    return Check(name, float(data.mean()), float(replicated.mean()), effect, p)


def adjusted(checks: tuple[Check, ...]) -> Tensor:
    """Return the p-values allowed for their number, `(checks,)`; see `holm`.

    Args:
        checks: of one pair.
    """
    return holm(torch.tensor([check.p for check in checks], dtype=torch.float64))


def predictive(draws: Any, rows: int = ROWS, replicates: int = REPLICATES) -> Predictive:
    r"""Check a pair's data against their own posterior predictive.

    .. math:: z_i^s \sim q(z \mid x_i), \quad x_i^s \sim p(x \mid z_i^s)

    Compared are the row statistics and the realised discrepancy log p(x | z), which tells
    whether the likelihood's noise is of the right size. To be called inside `sealed`.

    Args:
        draws: a pair's `Draws`.
        rows: at most so many data, evenly spaced.
        replicates: of each datum.

    Raises:
        Unavailable: if the model has no site x, or a row no finite log p(x | z).
    """
    data: dict[str, list[Tensor]] = {}
    replicated: dict[str, list[Tensor]] = {}
    zeros = True
    for x, copy, scores in _replicate(draws, rows, replicates, _STREAM):
        if not data:  # of binary data they are 1 minus the mean
            zeros = bool((x == 0).any()) and bool(((x != 0) & (x != 1)).any())
        for held, values, log_p in ((data, x, scores[0]), (replicated, copy, scores[1])):
            for name, value in {**row_statistics(values, zeros), DISCREPANCY: log_p}.items():
                held.setdefault(name, []).append(value.double().cpu())
    left = {name: torch.stack(values) for name, values in data.items()}
    right = {name: torch.stack(values) for name, values in replicated.items()}
    for score in (left[DISCREPANCY], right[DISCREPANCY]):
        if len(bad := (~score.isfinite()).any(0).nonzero().flatten()):
            raise Unavailable(
                f"{len(bad)} of {score.shape[1]} rows have no finite {DISCREPANCY}; the first is "
                f"row {int(bad[0])} of those looked at"
            )
    checks = (compare_replicates(name, left[name], right[name]) for name in left)
    more = right[DISCREPANCY] >= left[DISCREPANCY]
    less = right[DISCREPANCY] <= left[DISCREPANCY]
    tail = torch.minimum(more.sum(0), less.sum(0)) + 1
    p_values = (2 * tail.double() / (replicates + 1)).clamp_max(1.0)
    return Predictive(tuple(check for check in checks if check is not None), p_values)


def replicates(draws: Any, rows: int, count: int) -> Tensor:
    """Draw replicates of data from their posterior predictive, `(count, rows, *shape)`.

    To be called inside `sealed`.

    Args:
        draws: a pair's `Draws`.
        rows: at most so many data, evenly spaced, as `columns.thin` chooses them.
        count: replicates of each.

    Raises:
        Unavailable: if the model has no site x.
    """
    return torch.stack([copy.cpu() for _, copy, _ in _replicate(draws, rows, count, _SHOWN)])


def _replicate(
    draws: Any, rows: int, count: int, stream: int
) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, Tensor]]]:
    """Yield data, one replicate of each, and log p(x | z) of both, `count` times."""
    if "x" not in draws.phase.observed:
        raise Unavailable("the model has no observed site x")
    _ = draws.x  # says why there is none
    like = placement(draws.model, draws.guide)
    columns = place(thin(draws.columns, rows), like)
    for index in range(count):
        reseed(columns["x"].device, draws.seed, stream, index)
        phase = Phases(draws.model, draws.guide, columns=columns).awake
        distribution, x = phase.distribution("x", of="model"), columns["x"]
        copy = distribution.sample().reshape(x.shape)
        yield x, copy, (_score(distribution, x), _score(distribution, copy))


def _score(distribution: Any, x: Tensor) -> Tensor:
    """Return log p(x | z) of each row, `(n,)`."""
    score: Tensor = distribution.log_prob(
        x.reshape(distribution.batch_shape + distribution.event_shape)
    )
    return score.reshape(len(x), -1).sum(1)


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
    text = f"the data are unlike their replicates: {', '.join(failed)}"
    return Estimate(
        float(p.min()),
        None,
        len(found.p_values),
        "biased",
        note=f"of {len(p)} statistics, adjusted for their number; data against replicates: {told}; "
        "conservative: latents were inferred from the same data",
        warnings=(Doubt(text, Remedy.LIKELIHOOD),) if failed else (),
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


@once
def _predictive(draws: Draws) -> Predictive:
    return predictive(draws)
