"""The verb that draws from a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from priory.cli.conditions import GIVEN, read_given, repeated, spread
from priory.cli.data_source import data_options
from priory.cli.grammar import Command, begin, values_of
from priory.cli.outputs import OVERWRITE, PICTURES, free_output, means_of, save_picture
from priory.cli.runs import RUN, foreign, open_run
from priory.inference import Run
from priory.signatures import Option, options_of, summary

_OF_EACH = 10  # samples of each of several values that are given


def run_sample(words: Sequence[str], wants_help: bool) -> None:
    """Draw samples from a run, as a picture or as arrays."""
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
    name, texts, errors = begun
    options = values_of(command.groups["drawing"], texts, errors)
    if (options.get("n") or 1) < 1:
        errors.found.append(f"n must be at least 1, got {options['n']}")
    asked = errors.attempt(read_given, options.pop("given", None) or "") or {}
    out = Path(texts.get("out", "samples.png"))
    errors.attempt(free_output, out, endings, "out", texts)
    run = open_run(name, texts, errors)
    held, rows = errors.attempt(spread, asked, run) or ({}, 1)
    n = options.pop("n", None) or (64 if rows == 1 else _OF_EACH)
    given = {site: repeated(values, n) for site, values in held.items()}
    draws = errors.attempt(run.sample, n * rows, given=given, **options) or {}
    errors.check()
    from priory.evaluation.report.pictures import by_label, generated

    if out.suffix == ".npz":
        arrays: dict[str, Any] = {site: value.cpu().numpy() for site, value in draws.items()}
        np.savez(out, **arrays)
    else:
        means = means_of(draws)
        names = [", ".join(map(str, values)) for values in zip(*held.values(), strict=True)]
        of = "label" if [*held] == ["y"] else " and ".join(held)
        split = means.unflatten(0, (rows, n))
        save_picture(by_label(split, names, of) if rows > 1 else generated(means), out)
    print(f"wrote {out}: {', '.join(f'{k} {tuple(v.shape)}' for k, v in draws.items())}")
