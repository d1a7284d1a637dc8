"""How well a pair translates between two domains, where the counterparts are known."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.interpolation.translation import Translations, paired, translate
from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import Columns, rows_of, thin

_AMONG = 1000  # counterparts, at most, among which the nearest is looked for


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


def _translations(draws: Draws) -> tuple[Translations, Columns]:
    """Return the translations of at most so many rows, evenly spaced, and these rows."""

    def make() -> tuple[Translations, Columns]:
        columns = thin(draws.columns, _AMONG)
        return translate(draws.model, draws.guide, columns, seed=draws.seed), columns

    return draws.once("translations", make)
