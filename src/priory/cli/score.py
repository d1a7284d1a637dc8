"""The verb that scores rows by a run: the log likelihood of each."""

from __future__ import annotations

from pathlib import Path

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, output_file, save_rows
from priory.cli.runs import RUN, open_rows, pair_option, row_options
from priory.evaluation import score
from priory.inference.distributed import ranks
from priory.signatures import Option, options_of

_OUT = "scores.csv"
_ENDINGS = (".csv", ".npz")


def command(_: Request) -> Command:
    """Return what may be typed."""
    options = {n: o for n, o in options_of(score).items() if n not in ("run", "data")}
    about = "a row for each row: .csv, or .npz, which has a sentence on what the numbers are"
    return Command(
        "priory score RUN [options]",
        f"{VERBS['score']}. Both are in nats; a pair with latents gives a bound from below, whose "
        "mean is minus the nll of priory evaluate.",
        {
            "rows": row_options(),
            "scoring": options,
            "run": pair_option(),
            "output": {"out": Option("out", Path, _OUT, about), "overwrite": OVERWRITE},
        },
        act,
        RUN,
        (
            "priory score runs/vae-digits-seed0 --out scores.csv",
            "priory score runs/vae-digits-seed0 --data new.npz --particles 5000 --out scores.npz",
        ),
    )


def act(request: Request) -> None:
    """Score the rows, write the scores and print what they are."""
    options = request.values("scoring")
    out = output_file(request, "out", _OUT, _ENDINGS)
    run, data, names = open_rows(request)
    scores = score(run, data, **options)
    numbers = {k: getattr(scores, k) for k in ("log_likelihood", "se", "ess", "khat")}
    named = {"id": list(names)} if names else {}
    table = {k: v.tolist() for k, v in numbers.items()} | {"kind": [scores.kind] * len(scores)}
    arrays = {k: v.numpy() for k, v in numbers.items()} | {"about": scores.about}
    ranks.barrier()  # every rank has looked at the file before one writes
    if ranks.is_main():
        save_rows(out, named | table, named | arrays)
    print(f"{scores}\nwrote {out}")
