"""Autoregressive decoders with a code and without, on static MNIST: where the bits go.

    PRIORY_DATA=folder python -m benchmarks.autoregressive made vlae-made vlae-window vlae-all

trains and judges rows and keeps their results under `benchmarks/results/autoregressive`. A trial
with other settings (`--steps 200 --limit 500`) prints its result and writes nothing.

All take batches of 100, Adam with a cosine to 1% of the rate, and return the weights that are best
on the validation images. Rows without a latent are judged by their exact likelihood, those with one
by the importance-weighted bound with K = 128, which in front of an autoregressive decoder costs a
pass of it for each sample; the code is the KL from the prior of 16 latents, of 32 by MADE.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from benchmarks import kept, pages
from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

TABLE = "autoregressive"
BATCH, IMAGES, PARTICLES = 100, 1000, 128

_CODE = {"latent": 16, "encoder": "mlp:200,200"}
# title, recipe, its options, epochs, rate, published on static MNIST
ROWS: dict[str, tuple[str, str, dict[str, Any], int, float, str]] = {
    "made": (
        "MADE, 1,000 units, no code",
        "made",
        {"decoder": "made:1000"},
        40,
        1e-3,
        "94.5 (500 units; karpathy/pytorch-made)",
    ),
    "vlae-made": (
        "MADE, 500, 500 units",
        "vlae",
        {"decoder": "made:500,500", "encoder": "mlp:500,500", "latent": 32, "ema": 0.999},
        50,
        1e-3,
        "-",
    ),
    "pixelcnn": (
        "PixelCNN, no code",
        "pixelcnn",
        {"decoder": "pixelcnn:blocks=8:channels=8"},
        8,
        4e-3,
        "-",
    ),
    "vlae-window": (
        "PixelCNN, window of 2",
        "vlae",
        {"decoder": "pixelcnn:window=2:blocks=1", **_CODE},
        15,
        3e-3,
        "79.03 (ResNets; Chen et al.)",
    ),
    "vlae-all": (
        "PixelCNN, no window",
        "vlae",
        {"decoder": "pixelcnn:blocks=8:channels=8", **_CODE},
        5,
        4e-3,
        "-",
    ),
}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        args: Of the command line.
    """
    _, recipe, options, epochs, rate, _ = ROWS[name]
    length = {"steps": args.steps} if args.steps else {"epochs": args.epochs or epochs}
    started = time.process_time()
    run = RECIPES[recipe].fit(
        Data.named("static-mnist"),
        **options,
        **length,
        batch_size=BATCH,
        lr=args.lr or rate,
        schedule="cosine",
        patience=epochs,  # which is never out: the best weights by the bound of one draw are kept
        valid_particles=1,
        seed=args.seed,
        progress=False,
    )
    trained = time.process_time() - started
    metrics = ["nll", "kl", "distortion", "active_units"]
    report = evaluate(
        run, metrics=metrics, particles=args.particles, limit=args.limit, pictures=False
    )
    last = run.history[-1]
    found: dict[str, Any] = {
        "row": name,
        "seed": args.seed,
        "epochs": last["epoch"],
        "steps": last["step"],
        "rate": args.lr or rate,
        "particles": args.particles,
        "images": args.limit,
        "train_cpu_seconds": trained,
        "judge_cpu_seconds": time.process_time() - started - trained,
    }
    return found | kept.circumstances() | kept.figures(report)


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    lines = [
        "| decoder | -log p(x), nats | published | code, nats | decoder, nats | active units "
        "| epochs | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = results() if found is None else found
    for r in found:
        title, *_, published = ROWS[r["row"]]
        cells = [
            "-" if r[m]["value"] is None else f"{r[m]['value']:.3g}" for m in ("kl", "active_units")
        ]
        paid = r["distortion"]["value"]
        lines.append(
            f"| {title} | {r['nll']['value']:.2f} ± {r['nll']['se']:.2f} | {published} "
            f"| {cells[0]} | {'-' if paid is None else f'{paid:.2f}'} | {cells[1]} "
            f"| {r['epochs']} | {r['train_cpu_seconds'] / 60:.1f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--epochs", type=int, help="a trial of so many")
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--lr", type=float, help="a trial at another rate")
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images to be judged")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    asked = (args.epochs, args.steps, args.lr, args.limit, args.particles)
    usual = asked == (None, None, None, IMAGES, PARTICLES)
    for name in args.rows or ROWS:
        found = measure(name, args)
        print(json.dumps(found), flush=True)
        print(table([found]), flush=True)
        if usual:
            kept.keep(TABLE, found)
            pages.write(autoregressive=table())


if __name__ == "__main__":
    main()
