"""Translations between two domains, judged by their true counterparts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import Columns, blocks, rows_of, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.samples.pairwise import check_sets, nearest
from priory.inference.modules import device_of
from priory.inference.phases.phases import Phases

_ROWS = 500  # rows at a time
_STREAM = 52  # the random stream of translations
_ROUNDING = 1e-9
_AMONG = 1000  # counterparts, at most, among which the nearest is looked for


class Translations(NamedTuple):
    """Data of two domains, and what a pair makes of them.

    Args:
        there: translations of x into the other domain, `(n, d)`.
        back: translations of `other` into the domain of x, `(n, d)`.
        round_x: translations of `there` back again, `(n, d)`.
        round_other: translations of `back` there again, `(n, d)`.
    """

    there: Tensor
    back: Tensor
    round_x: Tensor
    round_other: Tensor


def paired(translated: Tensor, true: Tensor) -> Tensor:
    """Return of each translation whether its own counterpart is nearest to it, 1 or 0, `(n,)`.

    Nearest by Euclidean distance among all counterparts; equal counterparts count as one. Chance
    is 1/n, and so is a translation that does not depend on the datum.

    Args:
        translated: translations, `(n, d)`.
        true: the true counterpart of each, `(n, d)`.

    Raises:
        ValueError: if the two sets differ in shape.

    Example:
        >>> rows = torch.eye(3)
        >>> paired(rows, rows), paired(rows.roll(1, 0), rows)
        (tensor([1., 1., 1.], dtype=torch.float64), tensor([0., 0., 0.], dtype=torch.float64))
    """
    if translated.shape != true.shape:
        raise ValueError(
            f"translations {tuple(translated.shape)} and counterparts {tuple(true.shape)} must be "
            "of one shape"
        )
    translated, true = check_sets(translated, true)
    own = (translated - true).norm(dim=1)
    least = nearest(translated, true).distance[:, 0]
    return (own <= least + _ROUNDING * (1 + least)).double()


def translate(
    model: Callable[..., Any], guide: Callable[..., Any], columns: Columns, *, seed: int = 0
) -> Translations:
    """Translate the columns `x` and `other` by a pair whose latent is a row of `other`.

    Args:
        model: Pyro program of p(x, b), with b the column `other`.
        guide: Pyro program of q(b | x).
        columns: x, `other` and whatever else the programs take, `(n, ...)`.
        seed: seed of the draws, where a translation is random.

    Raises:
        Unavailable: if there is no such column, or the pair's latent is something else.
    """
    if "other" not in columns:
        raise Unavailable("the data have no second domain: no column other, the counterparts of x")
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    parts = []
    for start, rows in blocks(columns, _ROWS, like):
        reseed(device, seed, _STREAM, start)
        phases = Phases(model, guide, columns=rows)
        awake, asleep = phases.awake, phases.asleep
        sites = awake.latents
        if len(sites) != 1 or not _same(asleep.sample[sites[0]], rows["other"]):
            raise Unavailable("the model does not take its latent from the column other")
        try:
            back = (
                awake.distribution("x", of="model").mean,
                asleep.distribution(sites[0]).mean,
            )
        except NotImplementedError as error:
            raise Unavailable(f"a translation back has no mean: {error}") from error
        found = (awake.sample[sites[0]], asleep.sample["x"], *back)
        parts.append([rows_of(v.reshape(rows["x"].shape)).cpu() for v in found])
    return Translations(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _same(drawn: Tensor, other: Tensor) -> bool:
    return drawn.numel() == other.numel() and torch.equal(drawn.reshape(other.shape), other)


@metric("paths", "x", "phase", better="higher")
def pairing_accuracy(draws: Draws) -> Estimate:
    """Share of data whose translation is nearest to their own counterpart among all others."""
    found, columns = _translations(draws)
    return _accuracy(found.there, columns["x"], columns["other"])


@metric("paths", "x", "phase", better="higher")
def pairing_accuracy_back(draws: Draws) -> Estimate:
    """Share of rows of the other domain whose translation is nearest to their own datum."""
    found, columns = _translations(draws)
    return _accuracy(found.back, columns["other"], columns["x"])


@metric("paths", "x", "phase", better="lower")
def cycle_error(draws: Draws) -> Estimate:
    """Absolute error per feature after the way to the other domain and back, from both."""
    found, columns = _translations(draws)
    trips = ((found.round_x, columns["x"]), (found.round_other, columns["other"]))
    first, second = ((trip - _flat(rows, trip)).abs().double().mean(1) for trip, rows in trips)
    return Estimate.mean(
        (first + second) / 2,
        kind="unbiased",
        unit="per feature",
        note=f"{float(first.mean()):.3g} from x, {float(second.mean()):.3g} from the other domain",
    )


def _accuracy(translated: Tensor, before: Tensor, true: Tensor) -> Estimate:
    check_finite("translations", translated)
    true = _flat(true, translated)
    untouched = float(paired(_flat(before, translated), true).mean())
    note = f"the nearest of {len(true)}, chance {1 / len(true):.2g}; untranslated {untouched:.3g}"
    hits = paired(translated, true)
    return Estimate.share(hits, kind="unbiased", note=note)


def _flat(rows: Tensor, like: Tensor) -> Tensor:
    return rows_of(rows).to(like)


@once
def _translations(draws: Draws) -> tuple[Translations, Columns]:
    """Return the translations of at most so many rows, evenly spaced, and these rows."""
    columns = thin(draws.columns, _AMONG)
    return translate(draws.model, draws.guide, columns, seed=draws.seed), columns
