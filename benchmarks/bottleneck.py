"""The information bottleneck on MNIST, over the price of a nat: errors and the information plane.

    PRIORY_DATA=folder python -m benchmarks.bottleneck

trains the recipe `vib` for each beta, judges it on all test images, and writes the table into
docs/results.md and the picture beside it. A trial with other settings (`--epochs 1 --limit 500`)
prints its results and writes nothing.

Nets 784-400-400 and a code of 64 coordinates with a linear classifier, half as wide as those of
Alemi, Fischer, Dillon and Murphy, 2017, Deep variational information bottleneck; labels are
predicted by 12 codes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks import pages
from benchmarks.machine import hardware, load
from priory import __version__, evaluate
from priory.data import Data
from priory.evaluation.report.charts import information_plane
from priory.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "bottleneck.json"
PICTURE = FILE.with_suffix(".png")
BETAS = ("1e-4", "1e-3", "1e-2", "1e-1", "0.5")
EPOCHS, BATCH, RATE = 20, 100, 1e-3
METRICS = ["accuracy", "label_nll", "kl", "label_information"]


def measure(beta: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train at one price, and judge.

    Args:
        beta: price of a nat about the data.
        args: of the command line.
    """
    run = RECIPES["vib"].fit(
        Data.named("mnist", binarise="none"),
        objective=f"elbo:beta={beta}",
        encoder="mlp:400,400",
        latent=64,
        batch_size=BATCH,
        epochs=args.epochs,
        lr=RATE,
        schedule="cosine",
        valid_every=0,
        seed=args.seed,
        progress=False,
    )
    report = evaluate(run, metrics=METRICS, limit=args.limit, seed=args.seed, pictures=False)
    values = {name: {"value": report[name].value, "se": report[name].se} for name in METRICS}
    return {
        "beta": beta,
        **values,
        "images": report.n,
        "epochs": run.history[-1]["epoch"],
        "seconds": run.seconds,
    }


def table(result: dict[str, Any]) -> str:
    """Return results as Markdown."""
    lines = [
        "| beta | error, % | -log p(y \\| x) | I(z; x) at most | I(z; y) at least | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        wrong, se = 100 * (1 - row["accuracy"]["value"]), 100 * row["accuracy"]["se"]
        lines.append(
            f"| {row['beta']} | {wrong:.2f} ± {se:.2f} | {row['label_nll']['value']:.4f} "
            f"| {row['kl']['value']:.2f} | {row['label_information']['value']:.3f} "
            f"| {row['seconds'] / 60:.1f} |"
        )
    first = result["rows"][0]
    return "\n".join(
        [
            *lines,
            "",
            f"In nats; {first['epochs']} epochs, judged on {first['images']:,} test images. "
            f"Measured on {result['hardware']}; load {result['load']:.1f} before.",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--betas", nargs="*", default=BETAS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--limit", type=int, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
        "threads": args.threads,
        "load": load(),
        "rows": [],
    }
    for beta in args.betas:
        result["rows"].append(measure(beta, args))
        print(json.dumps(result["rows"][-1]), flush=True)
    if (tuple(args.betas), args.epochs, args.limit) == (BETAS, EPOCHS, None):
        FILE.write_text(json.dumps(result, indent=1) + "\n")
        points = {
            f"beta {row['beta']}": (row["kl"]["value"], row["label_information"]["value"])
            for row in result["rows"]
        }
        information_plane(points).savefig(PICTURE, dpi=110, bbox_inches="tight")
        pages.write(bottleneck=table(result))
        print(table(result))


if __name__ == "__main__":
    main()
