"""Toy sets in the plane by density models: modes, high quality, and likelihood beside the entropy.

    python -m benchmarks.toys nsf maf --data grid --seeds 0

trains each named recipe on each set from each seed by its own settings, keeps its figures as one
JSON file for each recipe and set under `benchmarks/results/toys`, and writes the table into
docs/results.md. `--steps 100` prints the figures of a trial and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import pages
from benchmarks.games import SAMPLES, judged
from benchmarks.machine import hardware
from priory import evaluate
from priory.data import Data
from priory.data.toys import DENSITIES, TOYS
from priory.recipes import RECIPES

RESULTS = Path(__file__).parent / "results" / "toys"
NAMES = ("nsf", "realnvp", "maf", "nice")
SETS = ("ring", "grid", "swiss-roll", "pinwheel")
SEEDS = (0, 1, 2)


def measure(recipe: str, name: str, seed: int, **options: Any) -> dict[str, Any]:
    """Train a recipe on a toy set from one seed, and judge it on held-out rows and by samples."""
    started = time.process_time()
    run = RECIPES[recipe].fit(
        Data.named(name), seed=seed, valid_every=0, progress=False, device="cpu", **options
    )
    seconds = time.process_time() - started
    nll = evaluate(run, metrics=["nll"], pictures=False, particles=100)["nll"]
    found = {"seed": seed, "nll": nll.value, "se": nll.se, "kind": nll.kind, "cpu": seconds}
    if name in DENSITIES:
        found |= judged(run.sample(SAMPLES, seed=seed)["x"], name)
    return found


def keep(recipe: str, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to the file of a recipe on a set, in the place of older ones of the same seeds."""
    file = RESULTS / f"{recipe}-{name}.json"
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    merged = {r["seed"]: r for r in [*before, *rows]}
    result = {
        "recipe": recipe,
        "data": name,
        "rows": [merged[seed] for seed in sorted(merged)],
        "hardware": hardware(torch.device("cpu")),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")


def results() -> list[dict[str, Any]]:
    """Return what was kept, in the order of the sets, then of the recipes."""
    found = [json.loads(file.read_text()) for file in RESULTS.glob("*.json")]
    known = [*NAMES, *sorted({r["recipe"] for r in found} - {*NAMES})]
    return sorted(found, key=lambda r: (SETS.index(r["data"]), known.index(r["recipe"])))


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| set | recipe | -log p(x) of test rows, nats | above the entropy (worst) | modes (worst) "
        "| high quality, % (worst) | CPU s | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    entropies = {row.name: row.entropy for row in TOYS}
    found = results()
    for r in found:
        of = {k: torch.tensor([float(row.get(k, 0)) for row in r["rows"]]) for k in r["rows"][0]
              if k != "kind"}  # fmt: skip
        above, bound = of["nll"] - entropies[r["data"]], r["rows"][0]["kind"] != "exact"
        cells = ["-", "-"]
        if "modes" in of:
            quality = 100 * of["high_quality"]
            total = len(DENSITIES[r["data"]].centres)
            cells = [f"{of['modes'].mean():.1f} ({of['modes'].min():.0f}) of {total}",
                     f"{quality.mean():.1f} ({quality.min():.1f})"]  # fmt: skip
        sign = "at most " if bound else ""
        lines.append(
            f"| {r['data']} | {r['recipe']} | {sign}{of['nll'].mean():.3f} ± {of['se'].max():.3f} "
            f"| {above.mean():.3f} ({above.max():.3f}) | {' | '.join(cells)} "
            f"| {of['cpu'].mean():.0f} | {len(r['rows'])} |"
        )
    known = ", ".join(f"{name} {entropies[name]:.3f}" for name in SETS)
    places = "; ".join(sorted({r["hardware"] for r in found}))
    return "\n".join(
        [
            *lines,
            "",
            "Means over the seeds; ± is the standard error over 10,000 test rows. Entropies, below "
            f"which a mean lies by chance alone: {known} nats. Modes with a sample within 3 sd, and"
            " "
            f"the share of {SAMPLES:,} samples within 3 sd of a mode, 98.9% for a perfect sampler. "
            f"Each recipe by its own settings. Measured on {places}.",
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
                    keep(recipe, name, [row])
    if not trial:
        pages.write(toys=table())


if __name__ == "__main__":
    main()
