"""Restricted Boltzmann machines of 500 hidden units on MNIST, judged by both directions.

    PRIORY_DATA=folder python -m benchmarks.energies rbm-500

trains and judges rows and keeps their results under `benchmarks/results/energies`. A trial with
another length (`--steps 200`) prints its result and writes nothing.

Persistent contrastive divergence: a sweep for each step, batches of 100 and 100 chains, plain
gradient steps of 0.1 that fall to 0 along a line, centred; 70 epochs of static MNIST, whose images
are binarised once, or 100 of MNIST binarised anew for each batch, and once for the test. log Z by
annealed importance sampling with 4,000 temperatures and 100 chains, from independent pixels
forwards, and back from the persistent chains after 1,000 more sweeps. The published figure is that
of CD-25 in Salakhutdinov and Murray (On the quantitative analysis of deep belief networks, 2008),
by annealing forwards alone, on MNIST binarised otherwise.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import kept
from priory import evaluate
from priory.data import Data
from priory.evaluation.isolation import sealed
from priory.evaluation.likelihood.normaliser import known_of
from priory.recipes import RECIPES

TABLE = "energies"

_RBM = ("rbm", {"latent": 500, "lr": 0.1})
# title, recipe and its options, data, epochs, published
ROWS: dict[str, tuple[str, tuple[str, dict[str, Any]], str, int, str]] = {
    "rbm-500": ("RBM, 500 hidden, PCD-1", _RBM, "static-mnist", 70, "86.34 (CD-25)"),
    "rbm-500-dynamic": ("the same, binarised anew", _RBM, "mnist", 100, "86.34 (CD-25)"),
}


def measure(name: str, *, length: dict[str, int], seed: int) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        length: `epochs` or `steps` of the training.
        seed: Of the training.
    """
    _, (recipe, options), data, _, _ = ROWS[name]
    began = time.process_time()
    run = RECIPES[recipe].fit(Data.named(data), **options, **length, seed=seed, progress=False)
    trained = time.process_time()
    with sealed(run.pair):
        known = known_of(run.pair)
    annealed = time.process_time()
    found: dict[str, Any] = {
        "row": name,
        "seed": seed,
        "epochs": run.history[-1]["epoch"],
        "steps": run.history[-1]["step"],
        "train_cpu_seconds": trained - began,
        "anneal_cpu_seconds": annealed - trained,
        "log_z": None if known is None else list(known.ways),
        **kept.circumstances(),
    }
    for split in ("test", "train"):
        # The weights of the K-sample bound have no variance: one sample is as good as a thousand.
        options = {"particles": 1, "limit": 10_000, "pictures": False}
        record = evaluate(run, split=split, metrics=["nll"], **options)["nll"]
        found[split] = {"value": record.value, "se": record.se, "note": record.note}
    return found


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| machine | -log p(x), test | by log Z forwards, back | -log p(x), training rows "
        "| published | epochs | CPU seconds: training, log Z |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        title, *_, published = ROWS[r["row"]]
        value, train = r["test"]["value"], r["train"]["value"]
        if value is None:
            cells = ["not known", f"log Z {r['log_z'][0]:.2f}, {r['log_z'][1]:.2f}", "not known"]
        else:
            middle = sum(r["log_z"]) / 2
            ends = ", ".join(f"{value + z - middle:.2f}" for z in r["log_z"])
            cells = [f"{value:.2f} ± {r['test']['se']:.2f}", ends, f"{train:.2f}"]
        seconds = f"{r['train_cpu_seconds']:.0f}, {r['anneal_cpu_seconds']:.0f}"
        lines.append(f"| {title} | {' | '.join(cells)} | {published} | {r['epochs']} | {seconds} |")
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--epochs", type=int, help="in place of the row's own")
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.rows:
        length = {"steps": args.steps} if args.steps else {"epochs": args.epochs or ROWS[name][3]}
        found = measure(name, length=length, seed=args.seed)
        print(table([found]))
        if not args.steps:
            kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
