"""Flows of greyscale MNIST: bits per dimension, beside published ones.

    PRIORY_DATA=folder python -m benchmarks.flows maf realnvp glow

trains and judges rows and keeps their results under `benchmarks/results/flows`, and writes the
table into docs/results.md. A trial (`--steps 20 --limit 100`) prints its result and writes nothing.

Each is trained by Adam and a cosine from 1e-3, and judged on 2,500 test images, evenly spaced: by
the average over single draws of the noise, as papers do, and by the bound with 20.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch

from benchmarks import kept, pages
from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

TABLE = "flows"
BATCH, PARTICLES, IMAGES, FEATURES = 100, 20, 2500, 784
# title, recipe and its options, epochs, published log p(y) of log-odds in nats
ROWS: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "maf": ("MAF, 5 maps of 500 units", "maf", {"flow": "maf:5:500"}, 40, "-1272.7, -1300.5"),
    "realnvp": (
        "RealNVP, 5 maps of 500 units",
        "realnvp",
        {"flow": "realnvp:5:500"},
        40,
        "-1279.8",
    ),
    "glow": ("Glow, 2 scales of 4 steps, 64 channels", "glow", {}, 3, "-"),
    "variational-glow": ("the same, learned noise", "variational-glow", {}, 3, "-"),
}


def measure(name: str, *, length: dict[str, int], limit: int, seed: int) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        length: `epochs` or `steps` of the training.
        limit: Test images.
        seed: Of the training.
    """
    _, recipe, options, _, _ = ROWS[name]
    started = time.process_time()
    run = RECIPES[recipe].fit(
        Data.named("mnist", binarise="none"),
        **options,
        **length,
        batch_size=BATCH,
        lr=1e-3,
        schedule="cosine",
        seed=seed,
        progress=False,
    )
    seconds = time.process_time() - started
    metrics = ["elbo", "bits_per_dim"]
    report = evaluate(run, metrics=metrics, particles=PARTICLES, limit=limit, pictures=False)
    last, elbo, bits = run.history[-1], report["elbo"], report["bits_per_dim"]
    unit = FEATURES * math.log(2)
    return {
        "row": name,
        "seed": seed,
        "epochs": last["epoch"],
        "steps": last["step"],
        "cpu": seconds,
        "single": {"value": -elbo.value / unit, "se": elbo.se / unit},
        "bound": {"value": bits.value, "se": bits.se, "kind": bits.kind},
        **kept.circumstances(),
    }


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        f"| flow | bits per dim, one draw of the noise | bound with {PARTICLES} draws | published "
        "log p of log-odds, nats | epochs | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        title, _, _, _, published = ROWS[r["row"]]
        one, bound = r["single"], r["bound"]
        lines.append(
            f"| {title} | {one['value']:.3f} ± {one['se']:.3f} | {bound['value']:.3f} ± "
            f"{bound['se']:.3f} | {published} | {r['epochs']} | {r['cpu'] / 60:.0f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--epochs", type=int, help="those of the row by default")
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    trial = args.steps or args.limit != IMAGES
    for name in args.rows:
        length = {"steps": args.steps} if args.steps else {"epochs": args.epochs or ROWS[name][3]}
        found = measure(name, length=length, limit=args.limit, seed=args.seed)
        print(table([found]), f"\n{found['cpu'] / found['steps']:.4f} CPU s a step", flush=True)
        if not trial:
            kept.keep(TABLE, found)
            pages.write(flows=table())


if __name__ == "__main__":
    main()
