"""One belief net by every way through bits: wake-sleep, its reweighted form, VIMCO, DisARM.

    PRIORY_DATA=folder python -m benchmarks.discrete wake-sleep rws vimco disarm

trains the recipes of those names on static MNIST and writes the table into docs/results.md. A trial
with other settings (`--steps 300 --particles 100 --limit 500`) prints its result and writes
nothing.

Each is a sigmoid belief net of 200 and 200 bits with a recognition net of as many, both linear,
with 5 particles, judged by the importance-weighted bound with K = 5000 on 2,500 test images, evenly
spaced. A result is one JSON file under `benchmarks/results/discrete`.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from benchmarks import kept, pages
from priory.data import Data
from priory.evaluation.likelihood.bound import log_likelihood
from priory.evaluation.rows import check, read, thin
from priory.recipes import RECIPES

TABLE = "discrete"
PARTICLES, IMAGES, EPOCHS, RATE = 5000, 2500, 150, 2e-3
ROWS = ("wake-sleep", "rws", "vimco", "disarm")


def train(name: str, args: argparse.Namespace) -> Any:
    """Train a recipe's net for as many epochs, or steps, as are asked for."""
    length = {"steps": args.steps} if args.steps else {"epochs": args.epochs}
    return RECIPES[name].fit(
        Data.named("static-mnist"),
        layers=(200, 200),
        batch_size=100,
        lr=args.lr,
        schedule="cosine",
        valid_every=0,
        compile=args.compile,
        seed=args.seed,
        progress=False,
        **length,
    )


def judge(name: str, run: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Judge a run on the test images, and return its line of the table."""
    rows = thin(check(read(run.data.test)), args.limit)
    started = time.perf_counter()
    with run.scope():
        bounds = log_likelihood(run.pair.model, run.pair.guide, rows, args.particles, args.seed)
    nll = -bounds.log_likelihood
    return {
        "row": name,
        "seed": args.seed,
        "nll": float(nll.mean()),
        "se": float(nll.std() / len(nll) ** 0.5),
        "elbo": float(bounds.elbo.mean()),
        "ess": float(bounds.ess.mean()),
        "particles": args.particles,
        "images": len(nll),
        "epochs": run.history[-1]["epoch"],
        "steps": run.history[-1]["step"],
        "rate": args.lr,
        "train_seconds": run.seconds,
        "judge_seconds": time.perf_counter() - started,
        **kept.circumstances(),
    }


def results() -> list[dict[str, Any]]:
    """Return all results that are kept, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| recipe | objective | -log p(x), nats | ELBO | K | images | epochs | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = results()
    for row in found:
        name, minutes = row["row"], row["train_seconds"] / 60
        lines.append(
            f"| {name} | `{RECIPES[name].loss}` | {row['nll']:.2f} ± {row['se']:.2f} "
            f"| {row['elbo']:.2f} | {row['particles']:,} | {row['images']:,} | {row['epochs']} "
            f"| {minutes:.1f} min |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, help="in place of the epochs")
    parser.add_argument("--lr", type=float, default=RATE)
    parser.add_argument("--compile", default="auto", help="how steps are run, as of `fit`")
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images to be judged")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = (args.epochs, args.steps, args.limit, args.particles)
    usual = asked == (EPOCHS, None, IMAGES, PARTICLES)
    for name in () if args.table else args.rows or ROWS:
        result = judge(name, train(name, args), args)
        print(json.dumps(result), flush=True)
        if usual:
            kept.keep(TABLE, result)
            pages.write(discrete=table())
    print(table())


if __name__ == "__main__":
    main()
