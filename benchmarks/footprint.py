"""Peak memory, and what it does not grow with: python -m benchmarks.footprint.

The pair of the papers' table (784-200-200-50), random images. Each figure comes from a process of
its own, in MiB beyond what it began with.

- evaluating by the bound with K = 5000 on 10,000 images, and with a tenth of either;
- training for 200 and for 2,000 steps.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.apart import apart
from benchmarks.cases import CASES, images
from benchmarks.contenders.by_priory import pair
from benchmarks.machine import hardware, load
from priory import fit
from priory.data import Data
from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO

RESULT = Path(__file__).parent / "results" / "footprint.json"
CASE = CASES["vae"]


def evaluation(particles: int, rows: int, device: torch.device) -> dict[str, Any]:
    """Judge a pair by the K-sample bound."""
    x = images(rows, device)
    judged = pair(CASE)
    judged.build(x)
    start = time.perf_counter()
    log_likelihood(judged.model, judged.guide, {"x": x}, particles)
    return {"seconds": time.perf_counter() - start}


def training(steps: int, device: torch.device) -> dict[str, Any]:
    """Train a pair through the whole loop."""
    data = Data.from_arrays(x=images(10_000, torch.device("cpu")))
    start = time.perf_counter()
    fit(pair(CASE), ELBO(), data, steps=steps, valid_every=0, device=device, progress=False)
    return {"seconds": time.perf_counter() - start}


def measure(
    particles: int, rows: int, steps: int, device: torch.device, threads: int
) -> list[dict[str, Any]]:
    """Return the table's rows.

    Args:
        particles: K of the evaluation.
        rows: images that are judged.
        steps: of the training.
        device: where.
        threads: of torch.
    """
    tasks: dict[str, Callable[[], Any]] = {}
    for k, n in ((particles // 10, rows), (particles, rows // 10), (particles, rows)):
        tasks[f"evaluate K={k}, {n} images"] = functools.partial(evaluation, k, n, device)
    for n in (steps // 10, steps):
        tasks[f"train {n} steps"] = functools.partial(training, n, device)
    found = []
    for name, task in tasks.items():
        row = {"task": name, **apart(task, device, threads)}
        found.append(row)
        print(f"{name:32}{row['seconds']:9.1f} s{row['mebibytes']:9.0f} MiB", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=RESULT)
    o = parser.parse_args(arguments)
    began = load()
    rows = measure(o.particles, o.rows, o.steps, o.device, o.threads)
    result = {"hardware": hardware(o.device), "threads": o.threads, "load": began, "rows": rows}
    o.json.parent.mkdir(parents=True, exist_ok=True)
    o.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
