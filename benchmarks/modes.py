"""Modes that a recipe finds of a toy set, by the commands that a user gives, and nothing else.

    python -m benchmarks.modes r3gan grid --seeds 0 1 2

takes `priory fit r3gan --data grid --seed 0` and `priory sample` for each seed, judges the samples,
keeps the figures under `benchmarks/results/modes`, and writes the table into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import pages
from benchmarks.games import SAMPLES, judged
from benchmarks.machine import hardware
from priory.cli import main as priory
from priory.data.toys import DENSITIES
from priory.recipes import RECIPES

RESULTS = Path(__file__).parent / "results" / "modes"


def measured(recipe: str, data: str, seed: int) -> dict[str, Any]:
    """Train and sample by the command line, and return the samples' figures."""
    with tempfile.TemporaryDirectory() as folder:
        run, samples = f"{folder}/run", f"{folder}/samples.npz"
        _run("fit", recipe, "--data", data, "--seed", str(seed), "--out", run)
        _run("sample", run, "--n", str(SAMPLES), "--seed", str(seed), "--out", samples)
        x = torch.from_numpy(np.load(samples)["x"])
    return {"seed": seed, **judged(x, data)}


def _run(*arguments: str) -> None:
    if priory([*arguments]):
        raise RuntimeError(f"priory {' '.join(arguments)} failed")


def keep(recipe: str, data: str, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to the file of a recipe on a set, in the place of older ones of the same seeds."""
    file = RESULTS / f"{recipe}-{data}.json"
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    merged = {r["seed"]: r for r in [*before, *rows]}
    result = {
        "recipe": recipe,
        "data": data,
        "rows": [merged[seed] for seed in sorted(merged)],
        "hardware": hardware(torch.device("cpu")),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")


def results() -> list[dict[str, Any]]:
    """Return what was kept."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]


def table() -> str:
    """Return the tables as Markdown, one for each recipe and set."""
    parts = []
    for result in results():
        of, rows = len(DENSITIES[result["data"]].centres), result["rows"]
        parts += [
            f"| `priory fit {result['recipe']} --data {result['data']} --seed` "
            f"| {' | '.join(str(r['seed']) for r in rows)} |",
            "| --- " * (1 + len(rows)) + "|",
            f"| modes of {of} | {' | '.join(str(r['modes']) for r in rows)} |",
            "| high quality, % | "
            f"{' | '.join(format(100 * r['high_quality'], '.1f') for r in rows)} |",
            f"| KL | {' | '.join(format(r['kl'], '.3f') for r in rows)} |",
            "",
            f"{SAMPLES:,} samples each, by `priory sample --n {SAMPLES}`, judged as above. "
            f"Measured on {result['hardware']}.",
            "",
        ]
    return "\n".join(parts).rstrip()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", choices=[*RECIPES])
    parser.add_argument("data", choices=[*DENSITIES])
    parser.add_argument("--seeds", nargs="*", type=int, default=[*range(10)])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        row = measured(args.recipe, args.data, seed)
        print(json.dumps(row), flush=True)
        keep(args.recipe, args.data, [row])
    pages.write(modes=table())


if __name__ == "__main__":
    main()
