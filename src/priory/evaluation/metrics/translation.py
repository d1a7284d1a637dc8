"""How well a pair translates between two domains, where the counterparts are known."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.columns import Columns, rows_of, thin
from priory.evaluation.draws import Draws
from priory.evaluation.metrics.metric import Metric, check_finite
from priory.evaluation.paths.pairing import Translations, paired, translate
from priory.evaluation.record import Record, mean_record, share_record

_AMONG = 1000  # counterparts, at most, among which the nearest is looked for


def pairing_accuracy(draws: Draws) -> Record:
    """Share of data whose translation is nearest to their own counterpart among all others."""
    found, columns = _translations(draws)
    return _accuracy("pairing_accuracy", draws, found.there, columns["x"], columns["other"])


def pairing_accuracy_back(draws: Draws) -> Record:
    """Share of rows of the other domain whose translation is nearest to their own datum."""
    found, columns = _translations(draws)
    return _accuracy("pairing_accuracy_back", draws, found.back, columns["other"], columns["x"])


def cycle_error(draws: Draws) -> Record:
    """Absolute error per feature after the way to the other domain and back, from both."""
    found, columns = _translations(draws)
    trips = ((found.round_x, columns["x"]), (found.round_other, columns["other"]))
    first, second = ((trip - _flat(rows, trip)).abs().double().mean(1) for trip, rows in trips)
    return mean_record(
        "cycle_error",
        (first + second) / 2,
        seed=draws.seed,
        kind="unbiased",
        unit="per feature",
        note=f"{float(first.mean()):.3g} from x, {float(second.mean()):.3g} from the other domain",
    )


def _accuracy(name: str, draws: Draws, translated: Tensor, before: Tensor, true: Tensor) -> Record:
    check_finite("translations", translated)
    true = _flat(true, translated)
    untouched = float(paired(_flat(before, translated), true).mean())
    note = f"the nearest of {len(true)}, chance {1 / len(true):.2g}; untranslated {untouched:.3g}"
    hits = paired(translated, true)
    return share_record(name, hits, seed=draws.seed, kind="unbiased", note=note)


def _flat(rows: Tensor, like: Tensor) -> Tensor:
    return rows_of(rows).to(like)


def _translations(draws: Draws) -> tuple[Translations, Columns]:
    """Answer the translations of at most so many rows, evenly spaced, and these rows."""

    def make() -> tuple[Translations, Columns]:
        columns = thin(draws.columns, _AMONG)
        return translate(draws.model, draws.guide, columns, seed=draws.seed), columns

    return draws.once("translations", make)


ROWS: dict[str, Metric] = {
    "pairing_accuracy": Metric(pairing_accuracy, "paths", ("x", "phase"), "higher"),
    "pairing_accuracy_back": Metric(pairing_accuracy_back, "paths", ("x", "phase"), "higher"),
    "cycle_error": Metric(cycle_error, "paths", ("x", "phase"), "lower"),
}
