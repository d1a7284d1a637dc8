"""The options of `evaluate`, for every verb that judges."""

from __future__ import annotations

from typing import Any

from priory.cli.grammar import Request
from priory.evaluation import evaluate
from priory.lookup import named
from priory.signatures import Option, options_of

OUTLIERS = {
    "outliers": "data that the run is to distinguish from its own: a file or a named set",
    "background": "folder of a run on mutated data, for the likelihood ratio",
}


def evaluate_options() -> dict[str, Option]:
    """Return `evaluate`'s options, but those that name a run, data and outliers."""
    apart = ("pair", "data", *OUTLIERS)
    return {n: o for n, o in options_of(evaluate).items() if n not in apart}


def evaluate_values(request: Request) -> dict[str, Any]:
    """Return the values of the options under "judging" that were typed, checked for known names.

    Args:
        request: of a command that has `evaluate_options` there.
    """
    from priory.evaluation.samples.features import EXTRACTORS
    from priory.evaluation.table import choose

    options = request.values("judging")
    request.errors.attempt(choose, options.get("metrics"))
    if "features" in options:
        request.errors.attempt(named, "features", request.texts["features"], EXTRACTORS)
    return options
