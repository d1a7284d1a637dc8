"""How a command judges: the options of `evaluate`, as they are typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from priory.cli.inputs import values_of
from priory.evaluation import evaluate
from priory.names import named
from priory.signatures import Collector, Option, options_of

OUTLIERS = {
    "outliers": "data that the run is to distinguish from its own: a file or a named set",
    "background": "folder of a run on mutated data, for the likelihood ratio",
}


def judging_options() -> dict[str, Option]:
    """Return `evaluate`'s options; its count of samples is `--dreams` on the command line."""
    apart = ("pair", "data", *OUTLIERS)
    options = {n: o for n, o in options_of(evaluate).items() if n not in apart}
    options["dreams"] = replace(options.pop("samples"), name="dreams")
    return options


def judging_values(texts: Mapping[str, str], faults: Collector) -> dict[str, Any]:
    """Return the values of `evaluate`'s options that were given."""
    from priory.evaluation.metrics import choose
    from priory.evaluation.samples.features import EXTRACTORS

    options = values_of(judging_options(), texts, faults)
    faults.attempt(choose, options.get("metrics"))
    if "features" in options:
        faults.attempt(named, "features", texts["features"], EXTRACTORS)
    if "dreams" in options:
        options["samples"] = options.pop("dreams")
    return options
