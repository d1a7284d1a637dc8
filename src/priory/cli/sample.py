"""The verb that draws from a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from priory.cli.conditions import GIVEN, read_given, repeated, spread
from priory.cli.data_source import data_options
from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import (
    OVERWRITE,
    PICTURES,
    means_of,
    output_file,
    save_picture,
    save_rows,
)
from priory.cli.runs import RUN, open_run, pair_option
from priory.inference import Run
from priory.nets.autoregressive_decoder import watched
from priory.signatures import Option, options_of

_OUT = "samples.png"
_ENDINGS = (*PICTURES, ".npz", ".csv")
_MOVING = ".gif"
_CHAIN = {
    "chain": Option("chain", bool, False, "draw the way of a chain, from its start to a sample"),
    "chain_steps": Option("chain_steps", int | None, None, "steps of the way, if the pair has any"),
}
_OF_EACH = 10  # samples of each of several values that are given


def command(_: Request) -> Command:
    """Return what may be typed."""
    drawing = {n: o for n, o in options_of(Run.sample).items() if n not in ("self", "given")}
    about = f"a picture, arrays or a table: {', '.join(_ENDINGS)}; a table has the columns by name,"
    about += f" categories by the names of their levels; of a chain {_MOVING}, which moves"
    return Command(
        "priory sample RUN [options]",
        f"{VERBS['sample']}.",
        {
            "drawing": drawing | {"given": GIVEN} | _CHAIN,
            "run": pair_option() | data_options(None),
            "output": {"out": Option("out", Path, _OUT, about), "overwrite": OVERWRITE},
        },
        act,
        RUN,
        (
            "priory sample runs/vae-digits-seed0 --n 64 --out samples.png",
            "priory sample runs/cvae-digits-seed0 --given y=all --n 10",
            "priory sample runs/dae-digits-seed0 --chain --out way.gif",
        ),
    )


def act(request: Request) -> None:
    """Draw samples, and write them."""
    errors = request.errors
    options = request.values("drawing")
    if (options.get("n") or 1) < 1:
        errors.found.append(f"n must be at least 1, got {options['n']}")
    steps = options.pop("chain_steps", None)
    if options.pop("chain", False):
        _act_on_chains(request, options, steps)
        return
    if steps is not None:
        errors.found.append("chain_steps are those of --chain, which is not there")
    asked = errors.attempt(read_given, options.pop("given", None) or "") or {}
    out = output_file(request, "out", _OUT, _ENDINGS)
    run = open_run(request)
    held, rows = errors.attempt(spread, asked, run) or ({}, 1)
    n = options.pop("n", None) or (64 if rows == 1 else _OF_EACH)
    given = {site: repeated(values, n) for site, values in held.items()}
    with _progress():
        draws = errors.attempt(run.sample, n * rows, given=given, **options) or {}
    errors.check()
    if out.suffix == ".csv":
        errors.check()
        _save_table(run, draws, out)
        return
    means = None if out.suffix == ".npz" else errors.attempt(means_of, draws)
    errors.check()
    from priory.evaluation.report.pictures import by_label, generated

    if means is None:
        arrays: dict[str, Any] = {site: value.cpu().numpy() for site, value in draws.items()}
        np.savez(out, **arrays)
    else:
        names = [", ".join(map(str, values)) for values in zip(*held.values(), strict=True)]
        of = "label" if [*held] == ["y"] else " and ".join(held)
        split = means.unflatten(0, (rows, n))
        save_picture(by_label(split, names, of) if rows > 1 else generated(means), out)
    print(f"wrote {out}: {', '.join(f'{k} {tuple(v.shape)}' for k, v in draws.items())}")


def _save_table(run: Run, draws: dict[str, Any], out: Path) -> None:
    """Write samples of a table's rows as a table.

    Raises:
        ValueError: if they are no rows of a table.
    """
    x = draws.get("x")
    if x is None or x.dim() != 2 or run.preparation is None:
        raise ValueError(f"{out}: samples that are no rows of a table are written as .npz")
    save_rows(out, run.preparation.table(x), {})
    print(f"wrote {out}: {len(x):,} rows of {x.shape[1]} columns")


def _act_on_chains(request: Request, options: dict[str, Any], steps: int | None) -> None:
    """Draw chains over time, and write them."""
    errors = request.errors
    if options.pop("given", None):
        errors.found.append("a chain is drawn with nothing given: leave --given or --chain out")
    out = output_file(request, "out", _OUT, (*PICTURES, ".npz", _MOVING))
    run = open_run(request)
    n = options.pop("n", None) or 64
    chosen = {name: value for name, value in options.items() if value is not None}
    states = errors.attempt(run.chain, n, steps=steps, **chosen)
    errors.check()
    assert states is not None  # noqa: S101
    from priory.evaluation.report.ways import over_time, save_moving

    if out.suffix == ".npz":
        np.savez(out, x=states.numpy())
    elif out.suffix == _MOVING:
        errors.attempt(save_moving, states, out)
        errors.check()
    else:
        save_picture(over_time(states), out)
    print(f"wrote {out}: {len(states):,} states of {n:,} chains, the start first")


@contextmanager
def _progress() -> Iterator[None]:
    """Show a bar on a terminal while samples are drawn pixel by pixel; others are drawn at once."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("sampling", visible=False)

        def report(done: int, places: int) -> None:
            bars.update(task, completed=done, total=places, visible=True)

        with watched(report):
            yield
