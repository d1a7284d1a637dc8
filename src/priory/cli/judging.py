"""How a command judges: the options of `evaluate`, as they are typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from priory.cli.grammar import values_of
from priory.evaluation import evaluate
from priory.lookup import named
from priory.signatures import Collector, Option, options_of

OUTLIERS = {
    "outliers": "data that the run is to distinguish from its own: a file or a named set",
    "background": "folder of a run on mutated data, for the likelihood ratio",
}


def judging_options() -> dict[str, Option]:
    """Return `evaluate`'s options."""
    apart = ("pair", "data", *OUTLIERS)
    return {n: o for n, o in options_of(evaluate).items() if n not in apart}


def judging_values(texts: Mapping[str, str], errors: Collector) -> dict[str, Any]:
    """Return the values of `evaluate`'s options that were given."""
    from priory.evaluation.samples.features import EXTRACTORS
    from priory.evaluation.table import choose

    options = values_of(judging_options(), texts, errors)
    errors.attempt(choose, options.get("metrics"))
    if "features" in options:
        errors.attempt(named, "features", texts["features"], EXTRACTORS)
    return options
