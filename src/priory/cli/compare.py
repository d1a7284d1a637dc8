"""The verb that puts runs side by side: it trains every combination, or takes trained ones."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.data_source import Source, data_options
from priory.cli.entry import VERBS
from priory.cli.evaluate_options import evaluate_options, evaluate_values
from priory.cli.grammar import Command, Request
from priory.cli.outputs import check_folder, folder_options
from priory.cli.recipe_options import is_of_recipe, pair_options, training_options
from priory.cli.runs import check_run
from priory.comparison import FailedFits, comma_list, compare, compare_runs, plan
from priory.recipes import RECIPES
from priory.signatures import Option, options_of

if TYPE_CHECKING:
    from priory.evaluation import Comparison

SHOWN = ("nll", "active_units", "knn_accuracy", "mmd")
"""What a comparison shows on a terminal; its page has every metric."""

_LISTS = {
    "recipe": "recipes, with commas between",
    "prior": "priors, with commas between: normal,vamp:100",
    "posterior": "posteriors, with commas between: normal,full,iaf",
    "objective": "objectives, with commas between: elbo,iwae:10",
}


def command(request: Request) -> Command:
    """Return what may be typed: options of combinations, or after folders of runs, of these."""
    return _of_runs() if request.arguments else _of_combinations()


def _of_combinations() -> Command:
    base = RECIPES["vae"]
    skip = ("data", *(f"{name}s" for name in _LISTS), "runs", "progress")
    own = [f"pair.{name}" for name in _LISTS]
    training = training_options(base)
    return Command(
        "priory compare [options]\n       priory compare RUN RUN ... [options]",
        f"{VERBS['compare']}. Prints one table; writes a page with the pictures, the numbers "
        "as JSON, and every run. Of runs that are trained already, see priory compare RUN --help.",
        {
            "what to compare": {n: Option(n, str, None, text) for n, text in _LISTS.items()},
            "comparison": {n: o for n, o in options_of(compare).items() if n not in skip},
            "the pairs": {n: o for n, o in pair_options(base).items() if n not in own},
            "training": {n: o for n, o in training.items() if n not in ("seed", "progress")},
            "earlier stages, of the recipes that have them": {
                n: o for recipe in RECIPES.values() for n, o in recipe.staged().items()
            },
            "data": data_options(base.data),
            "output": folder_options(
                "folder of the page, the numbers and the runs; report by default"
            ),
        },
        compare_combinations,
        None,
        (
            "priory compare --data digits --prior normal,vamp:100 --objective elbo,iwae:10",
            "priory compare --data mnist --recipe vae,wae-mmd,aae --seeds 5 --out report",
        ),
    )


def _of_runs() -> Command:
    return Command(
        "priory compare RUN RUN ... [options]",
        "Judge runs that are trained already by the same measures, and put them side by side. "
        "Folders that differ in a last -seed0, -seed1, ... alone are "
        "seeds of one label. Prints one table with the differences between runs, row by row of the "
        "same data; writes a page with the pictures, and the numbers as JSON.",
        {
            "judging": evaluate_options(),
            "data": data_options(None),
            "output": folder_options("folder of the page and the numbers; report by default"),
        },
        compare_trained,
        ("RUN ...", "folders of runs, as priory fit or compare has written them"),
        ("priory compare runs/normal runs/vamp --particles 1000 --out report",),
    )


def compare_combinations(request: Request) -> None:
    """Train every combination, and print and write the comparison."""
    from priory.evaluation.table import choose

    texts, errors = request.texts, request.errors
    axes: dict[str, Any] = {f"{n}s": comma_list(texts[n]) for n in _LISTS if texts.get(n)}
    if not axes:
        errors.found.append("give what to compare: --prior, --posterior, --objective or --recipe")
    source = Source(texts.get("data", RECIPES["vae"].data), texts, errors)
    options = request.values("comparison")
    metrics = options.get("metrics")
    errors.attempt(choose, metrics)
    jobs = options.pop("jobs", None)
    if jobs is not None and jobs < 1:
        errors.found.append(f"jobs must be at least 1, got {jobs}")
    own = ("objective", "overwrite")
    trained = {k: v for k, v in texts.items() if is_of_recipe(k) and k not in own}
    asked = {**axes, **trained, **{k: v for k, v in options.items() if v is not None}}
    errors.attempt(functools.partial(plan, source.name, **asked))
    out = _output_folder(request)
    errors.check()
    data = source.open()
    print(data, flush=True)
    try:
        table = compare(data, jobs=jobs, runs=out / "runs", **asked)
    except FailedFits as error:
        if error.comparison is not None:
            publish(error.comparison, metrics, out)
        raise
    publish(table, metrics, out)


def compare_trained(request: Request) -> None:
    """Judge trained runs, and print and write the comparison."""
    texts, errors = request.texts, request.errors
    options = evaluate_values(request)
    source = Source(texts.get("data", "digits"), texts, errors)
    for folder in request.arguments:
        errors.attempt(check_run, folder)
    out = _output_folder(request)
    errors.check()
    data = source.open() if "data" in texts else None
    table = compare_runs(request.arguments, data, **options)
    publish(table, options.get("metrics"), out)


def _output_folder(request: Request) -> Path:
    out = Path(request.texts.get("out") or "report")
    request.errors.attempt(check_folder, out, request.overwrite, "comparison.json")
    return out


def publish(table: Comparison, metrics: Sequence[str] | None, out: Path) -> None:
    """Print a comparison as one table, and write its page and numbers.

    Args:
        table: the comparison.
        metrics: what to print; `SHOWN` if None.
        out: the folder of page and numbers.
    """
    from priory.evaluation.table import ANCHORS, choose

    out.mkdir(parents=True, exist_ok=True)
    kept = [*(choose(metrics) if metrics else SHOWN)]
    kept += [f"{name}_{anchor}" for name in kept for anchor in ANCHORS]
    rows = [
        replace(row, cells={n: c for n, c in row.cells.items() if n in kept}) for row in table.rows
    ]
    differences = [d for d in table.differences if d.metric in kept]
    first = [
        d for d in differences if d.metric == differences[0].metric
    ]  # the nll's, unless it is not asked for
    text = str(replace(table, rows=tuple(rows), differences=tuple(first)))
    if sys.stdout.isatty():
        text = re.sub(r"(\S+(?: ± \S+)?)\*(?=\s)", "\033[1m\\1*\033[0m", text)
    print(text)
    table.to_json(out / "comparison.json")
    print(f"wrote {table.to_html(out / 'index.html')}, with every metric and the pictures")
