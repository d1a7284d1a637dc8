"""Toy sets in the plane by density models: modes, high quality, and likelihood beside the entropy.

    python -m benchmarks.toys nsf maf --data grid --seeds 0

trains each named recipe on each set from each seed by its own settings, keeps its figures under
`benchmarks/results/toys`, and writes the table into docs/results.md. `--steps 100` prints the
figures of a trial and keeps nothing.
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
NAMES = ("nsf", "realnvp", "maf", "nice", "flow-matching", "ddpm")
PLANE = {"net": "time-mlp:128:3", "batch_size": "256"}  # of nets with a time, sized for two numbers
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
}
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
    nll = evaluate(run, metrics=["nll"], pictures=False, particles=100)["nll"]
    found = {
        "row": f"{recipe}-{name}",
        "seed": seed,
        "nll": nll.value,
        "se": nll.se,
        "kind": nll.kind,
        "cpu": seconds,
    }
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
        above, bound = of["nll"] - entropies[data], seeds[0]["kind"] != "exact"
        cells = ["-", "-"]
        if "modes" in of:
            quality = 100 * of["high_quality"]
            total = len(DENSITIES[data].centres)
            cells = [f"{of['modes'].mean():.1f} ({of['modes'].min():.0f}) of {total}",
                     f"{quality.mean():.1f} ({quality.min():.1f})"]  # fmt: skip
        sign = "at most " if bound else ""
        lines.append(
            f"| {data} | {recipe} | {sign}{of['nll'].mean():.3f} ± {of['se'].max():.3f} "
            f"| {above.mean():.3f} ({above.max():.3f}) | {' | '.join(cells)} "
            f"| {of['cpu'].mean():.0f} | {len(seeds)} |"
        )
    known = ", ".join(f"{name} {entropies[name]:.3f}" for name in SETS)
    return "\n".join(
        [
            *lines,
            "",
            "Means over the seeds; ± is the standard error over 10,000 test rows. Entropies, below "
            f"which a mean lies by chance alone: {known} nats. Modes with a sample within 3 sd, and"
            " "
            f"the share of {SAMPLES:,} samples within 3 sd of a mode, 98.9% for a perfect sampler. "
            f"Each recipe by its own settings, `flow-matching` and `ddpm` with those of "
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
