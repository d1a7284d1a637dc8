"""Markov chains by their bounds in bits per dimension and their samples; on MNIST and digits.

    PRIORY_DATA=folder python -m benchmarks.chains ddpm digits

trains and judges rows and keeps their results under `benchmarks/results/chains`. A trial with other
settings (`--steps 200 --limit 50`) prints its result and writes nothing.

Images keep their 256 grey levels (the digits 17). The nets are a U-Net of depthwise convolutions,
or residual layers for the digits; the weights are averaged (Ho, Jain and Abbeel, Denoising
diffusion probabilistic models, 2020; Nichol and Dhariwal, Improved denoising diffusion
probabilistic models, 2021). The bound sums all steps, one draw of each for every test image, evenly
spaced ones where not all are judged; samples are compared with as many test images.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import kept, pages
from priory import evaluate
from priory.recipes import RECIPES

TABLE = "chains"
METRICS = ("nll", "bits_per_dim", "end_kl", "mmd", "precision", "recall")

_UNET = {"net": "unet:24:1,2,3:1", "timesteps": "400", "batch_size": "64", "lr": "2e-3"}
_LEARNED = {"noise": "cosine", "target": "v", "variance": "learned", "objective": "steps:bound"}
_DIGITS = {"timesteps": "200", "batch_size": "128"}
# title, recipe, data, options, steps, test images and samples that are judged
ROWS: dict[str, tuple[str, str, str, dict[str, str], int, int]] = {
    "ddpm": ("DDPM, squared error", "ddpm", "mnist", _UNET, 5000, 300),
    "ddpm-bound": ("DDPM, bound", "ddpm", "mnist", {**_UNET, **_LEARNED}, 5000, 300),
    "digits": ("DDPM, squared error", "ddpm", "digits", _DIGITS, 3000, 360),
    "digits-bound": ("DDPM, bound", "ddpm", "digits", {**_DIGITS, **_LEARNED}, 3000, 360),
}


def measure(name: str, *, steps: int | None, limit: int | None, seed: int) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        steps: Of the training; the row's own if None.
        limit: Test images, and samples; the row's own if None.
        seed: Of the training.
    """
    _, recipe, data, options, own_steps, images = ROWS[name]
    images = limit or images
    started = time.process_time()
    run = RECIPES[recipe].fit(
        data,
        **options,
        steps=steps or own_steps,
        ema=0.995,
        valid_every=0,
        seed=seed,
        progress=False,
    )
    trained = time.process_time() - started
    report = evaluate(
        run, metrics=[*METRICS], particles=1, limit=images, n_samples=images, pictures=False
    )
    found: dict[str, Any] = {
        "row": name,
        "data": data,
        "seed": seed,
        "steps": run.history[-1]["step"],
        "parameters": sum(p.numel() for p in run.pair.parameters()),
        "train_cpu_seconds": trained,
        "judge_cpu_seconds": time.process_time() - started - trained,
    }
    return found | kept.circumstances() | kept.figures(report)


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| chain | data | bits per dim | -log p(x), nats | end KL | mmd (real) | precision "
        "| recall | parameters | steps | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        bits, nll = (f"{r[m]['value']:.3f} ± {r[m]['se']:.3f}" for m in ("bits_per_dim", "nll"))
        near = f"{r['mmd']['value']:.2g} ({r['mmd_real']['value']:.2g})"
        lines.append(
            f"| {ROWS[r['row']][0]} | {r['data']} | {bits} | {nll} | {r['end_kl']['value']:.2g} "
            f"| {near} | {r['precision']['value']:.2f} | {r['recall']['value']:.2f} "
            f"| {r['parameters']:,} | {r['steps']:,} | {r['train_cpu_seconds'] / 60:.1f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--limit", type=int, help="a trial on so many test images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.rows:
        found = measure(name, steps=args.steps, limit=args.limit, seed=args.seed)
        print(table([found]), f"\n{found['train_cpu_seconds'] / found['steps']:.4f} CPU s a step")
        if not (args.steps or args.limit):
            kept.keep(TABLE, found)
            pages.write(chains=table())


if __name__ == "__main__":
    main()
