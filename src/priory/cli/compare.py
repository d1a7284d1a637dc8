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
from priory.cli.grammar import Command, leading_words, values_of
from priory.cli.judging import judging_options, judging_values
from priory.cli.outputs import free_folder, output
from priory.cli.recipe_options import KEPT, pair_options, trains
from priory.cli.runs import check_run
from priory.comparison import FailedFits, compare, compare_runs, plan
from priory.recipes import RECIPES, Recipe
from priory.signatures import Collector, Option, options_of, summary

if TYPE_CHECKING:
    from priory.evaluation import Comparison

SHOWN = ("nll", "active_units", "knn_accuracy", "mmd")
"""What a comparison shows on a terminal; its page has every metric."""

_LISTS = {
    "recipe": "recipes, with commas between",
    "prior": "priors, with commas between: normal,vamp:100",
    "objective": "objectives, with commas between: elbo,iwae:10",
}
_RUNS = ("RUN ...", "folders of runs, as priory fit or compare has written them")


def run_compare(words: Sequence[str], wants_help: bool) -> None:
    """Train every combination of priors, objectives and recipes, and judge all alike."""
    if words and not words[0].startswith("-"):
        compare_trained(words, wants_help)
        return
    base = RECIPES["vae"]
    command = _command(base)
    if wants_help:
        print(command.help())
        return
    from priory.evaluation.table import choose

    errors = Collector()
    texts = command.read(words, errors)
    axes: dict[str, Any] = {f"{n}s": comma_list(texts[n]) for n in _LISTS if texts.get(n)}
    if not axes:
        errors.found.append("give what to compare: --prior, --objective or --recipe")
    source = Source(texts, base.data, errors)
    options = values_of(command.groups["comparison"], texts, errors)
    metrics = options.get("metrics")
    errors.attempt(choose, metrics)
    jobs = options.pop("jobs", None)
    if jobs is not None and jobs < 1:
        errors.found.append(f"jobs must be at least 1, got {jobs}")
    own = ("objective", "overwrite")
    trained = {k: v for k, v in texts.items() if trains(k) and k not in own}
    asked = {**axes, **trained, **{k: v for k, v in options.items() if v is not None}}
    errors.attempt(functools.partial(plan, source.name, **asked))
    out = Path(texts.get("out") or "report")
    errors.attempt(free_folder, out, texts.get("overwrite") == "true", "comparison.json")
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


def _command(base: Recipe) -> Command:
    skip = ("data", "priors", "objectives", "recipes", "runs", "progress")
    return Command(
        "priory compare [options]\n       priory compare RUN RUN ... [options]",
        f"{summary(run_compare)}. Prints one table; writes a page with the pictures, the numbers "
        "as JSON, and every run. Of runs that are trained already, see priory compare RUN --help.",
        {
            "what to compare": {n: Option(n, str, None, text) for n, text in _LISTS.items()},
            "comparison": {n: o for n, o in options_of(compare).items() if n not in skip},
            "the pairs": {n: o for n, o in pair_options(base).items() if n != "pair.prior"},
            "training": {
                n: replace(o, default=base.training.get(n, o.default))
                for n, o in base.trainable().items()
                if n not in ("seed", "progress", *KEPT)
            },
            "data": data_options(base.data),
            "output": output("folder of the page, the numbers and the runs; report by default"),
        },
        None,
        (
            "priory compare --data digits --prior normal,vamp:100 --objective elbo,iwae:10",
            "priory compare --data mnist --recipe vae,wae-mmd,aae --seeds 5 --out report",
        ),
    )


def compare_trained(words: Sequence[str], wants_help: bool) -> None:
    """Judge runs that are trained already by the same measures, and put them side by side."""
    command = Command(
        "priory compare RUN RUN ... [options]",
        f"{summary(compare_trained)}. Folders that differ in a last -seed0, -seed1, ... alone are "
        "seeds of one label. Prints one table with the differences between runs, row by row of the "
        "same data; writes a page with the pictures, and the numbers as JSON.",
        {
            "judging": judging_options(),
            "data": data_options(None),
            "output": output("folder of the page and the numbers; report by default"),
        },
        _RUNS,
        ("priory compare runs/normal runs/vamp --particles 1000 --out report",),
    )
    if wants_help:
        print(command.help())
        return
    errors = Collector()
    folders, rest = leading_words(words)
    texts = command.read(rest, errors)
    options = judging_values(texts, errors)
    source = Source(texts, "digits", errors)
    for folder in folders:
        errors.attempt(check_run, folder)
    out = Path(texts.get("out") or "report")
    errors.attempt(free_folder, out, texts.get("overwrite") == "true", "comparison.json")
    errors.check()
    data = source.open() if "data" in texts else None
    publish(compare_runs(folders, data, **options), options.get("metrics"), out)


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
    told = [d for d in table.differences if d.metric in kept]
    first = [d for d in told if d.metric == told[0].metric]  # the nll's, unless it is not asked for
    text = str(replace(table, rows=tuple(rows), differences=tuple(first)))
    if sys.stdout.isatty():
        text = re.sub(r"(\S+(?: ± \S+)?)\*(?=\s)", "\033[1m\\1*\033[0m", text)
    print(text)
    table.to_json(out / "comparison.json")
    print(f"wrote {table.to_html(out / 'index.html')}, with every metric and the pictures")


def comma_list(text: str) -> list[str]:
    """Return the parts of a list with commas; `mlp:200,200` is one part, not two.

    Example:
        >>> comma_list("normal,flow:3:64,64,vamp")
        ['normal', 'flow:3:64,64', 'vamp']
    """
    return [part.strip() for part in re.split(r",(?=\s*[^\s\d,])(?![^(]*\))", text)]
