"""What the command line's verbs do: each reads its options, tells every fault, then acts."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from priory.cli.conditions import GIVEN, read_given, repeated, spread
from priory.cli.grammar import Command
from priory.cli.inputs import (
    OVERWRITE,
    PICTURES,
    RUN,
    Source,
    begin,
    comma_list,
    data_options,
    foreign,
    free_folder,
    free_output,
    open_run,
    output,
    pair_options,
    save_picture,
    trains,
    values_of,
)
from priory.cli.judging import compare_trained
from priory.cli.tables import TABLES, publish, table_text
from priory.cli.training import KEPT
from priory.comparing import FailedFits, compare, plan
from priory.evaluation.metrics import choose
from priory.evaluation.report.labelled import by_label
from priory.evaluation.report.pictures import dreams
from priory.inference import Run
from priory.names import named
from priory.recipes import RECIPES
from priory.signatures import Collector, Option, options_of, summary

_OF_EACH = 10  # dreams of each of several values that are given


def show_list(words: Sequence[str], wants_help: bool) -> None:
    """Show the recipes, priors, objectives, data sets and other parts by name."""
    if wants_help:
        print(f"usage: priory list [TABLE ...]\n\n{summary(show_list)}.\n")
        print(textwrap.fill(f"The tables are {', '.join(TABLES)}.", 100))
        return
    faults = Collector()
    for word in words:
        faults.attempt(named, "table", word, TABLES)
    faults.check()
    print("\n\n".join(table_text(name) for name in words or TABLES))


def run_sample(words: Sequence[str], wants_help: bool) -> None:
    """Draw dreams from a run, as a picture or as arrays."""
    endings = (*PICTURES, ".npz")
    told = ", ".join(endings)
    command = Command(
        "priory sample RUN [options]",
        f"{summary(run_sample)}.",
        {
            "drawing": {
                n: o for n, o in options_of(Run.sample).items() if n not in ("self", "given")
            }
            | {"given": GIVEN},
            "run": foreign() | data_options(None),
            "output": {
                "out": Option("out", Path, "samples.png", f"a picture or arrays: {told}"),
                "overwrite": OVERWRITE,
            },
        },
        RUN,
        (
            "priory sample runs/vae-digits-seed0 --n 64 --out samples.png",
            "priory sample runs/cvae-digits-seed0 --given y=all --n 10",
        ),
    )
    begun = begin(command, words, wants_help)
    if begun is None:
        return
    name, texts, faults = begun
    options = values_of(command.groups["drawing"], texts, faults)
    if (options.get("n") or 1) < 1:
        faults.found.append(f"n must be at least 1, got {options['n']}")
    asked = faults.attempt(read_given, options.pop("given", None) or "") or {}
    out = Path(texts.get("out", "samples.png"))
    faults.attempt(free_output, out, endings, "out", texts)
    run = open_run(name, texts, faults)
    held, rows = faults.attempt(spread, asked, run) or ({}, 1)
    n = options.pop("n", None) or (64 if rows == 1 else _OF_EACH)
    given = {site: repeated(values, n) for site, values in held.items()}
    draws = faults.attempt(run.sample, n * rows, given=given, **options) or {}
    faults.check()
    for site in ("x", "x_mean"):
        if site in draws:
            draws[site] = run.data.restore(draws[site])
    if out.suffix == ".npz":
        arrays: dict[str, Any] = {site: value.cpu().numpy() for site, value in draws.items()}
        np.savez(out, **arrays)
    else:
        means = draws.get("x_mean", draws["x"]) if draws["x"].dim() == 4 else draws["x"]
        means = means.cpu()
        names = [", ".join(map(str, values)) for values in zip(*held.values(), strict=True)]
        of = "label" if [*held] == ["y"] else " and ".join(held)
        split = means.unflatten(0, (rows, n))
        save_picture(by_label(split, names, of) if rows > 1 else dreams(means), out)
    print(f"wrote {out}: {', '.join(f'{k} {tuple(v.shape)}' for k, v in draws.items())}")


def run_compare(words: Sequence[str], wants_help: bool) -> None:
    """Train every combination of priors, objectives and recipes, and judge all alike."""
    if words and not words[0].startswith("-"):
        compare_trained(words, wants_help)
        return
    base = RECIPES["vae"]
    lists = {
        "recipe": "recipes, with commas between",
        "prior": "priors, with commas between: normal,vamp:100",
        "objective": "objectives, with commas between: elbo,iwae:10",
    }
    skip = ("data", "priors", "objectives", "recipes", "runs", "progress")
    command = Command(
        "priory compare [options]\n       priory compare RUN RUN ... [options]",
        f"{summary(run_compare)}. Prints one table; writes a page with the pictures, the numbers "
        "as JSON, and every run. Of runs that are trained already, see priory compare RUN --help.",
        {
            "what to compare": {n: Option(n, str, None, text) for n, text in lists.items()},
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
    if wants_help:
        print(command.help())
        return
    faults = Collector()
    texts = command.read(words, faults)
    axes: dict[str, Any] = {f"{n}s": comma_list(texts[n]) for n in lists if texts.get(n)}
    if not axes:
        faults.found.append("give what to compare: --prior, --objective or --recipe")
    source = Source(texts, base.data, faults)
    options = values_of(command.groups["comparison"], texts, faults)
    metrics = options.get("metrics")
    faults.attempt(choose, metrics)
    jobs = options.pop("jobs", None)
    if jobs is not None and jobs < 1:
        faults.found.append(f"jobs must be at least 1, got {jobs}")
    own = ("objective", "overwrite")
    trained = {k: v for k, v in texts.items() if trains(k) and k not in own}
    asked = {**axes, **trained, **{k: v for k, v in options.items() if v is not None}}
    faults.attempt(functools.partial(plan, source.name, **asked))
    out = Path(texts.get("out") or "report")
    faults.attempt(free_folder, out, texts.get("overwrite") == "true", "comparison.json")
    faults.check()
    data = source.open()
    print(data, flush=True)
    try:
        table = compare(data, jobs=jobs, runs=out / "runs", **asked)
    except FailedFits as error:
        if error.comparison is not None:
            publish(error.comparison, metrics, out)
        raise
    publish(table, metrics, out)
