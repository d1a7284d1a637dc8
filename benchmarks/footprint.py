"""Peak memory, and what it does not grow with.

    python -m benchmarks.footprint --parts sampling

The pair of the papers' table (784-200-200-50), random images. Each figure comes from a process of
its own, in MiB beyond what it began with.

- bound: judging by K = 5000 on 10,000 images, and with a tenth of either;
- training: 200 and 2,000 steps;
- sampling: 50 and 500 images by each row of `benchmarks.families`, as loaded from a run that was
  trained for a single step, and by an RBM; memory does not depend on the training, nor does time,
  but for `flow-matching`, whose solver takes as many steps as its field asks for.

Each figure is written into `benchmarks/results/footprint.json` as soon as it is known, beside the
others that are kept there, and the table into docs/results.md. `--sampled maf rbm` measures these
rows alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import kept, pages
from benchmarks.apart import apart
from benchmarks.cases import CASES, images
from benchmarks.contenders.by_priory import pair
from benchmarks.families import ROWS
from benchmarks.machine import hardware, load
from priory import fit
from priory import load as load_run
from priory.data import Data
from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO
from priory.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "footprint.json"
CASE = CASES["vae"]
PARTS = ("bound", "training", "sampling")
SAMPLED = {
    **{name: (row.recipe, row.options) for name, row in ROWS.items()},
    "ddpm, T = 100": (ROWS["ddpm"].recipe, {**ROWS["ddpm"].options, "timesteps": 100}),
    "rbm": ("rbm", {"latent": 500}),
}
DRAWN = (50, 500)


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


def trained(name: str, folder: Path) -> None:
    """Train a sampled row for a single step, and save it."""
    recipe, options = SAMPLED[name]
    RECIPES[recipe].fit(
        _data(name), **options, steps=1, valid_every=0, progress=False, folder=folder
    )


def _data(name: str) -> Data:
    """Return images of bits for an RBM, of 256 levels for the others."""
    x = images(256, torch.device("cpu")).reshape(-1, 1, 28, 28)
    if name != "rbm":
        levels = torch.randint(256, x.shape, generator=torch.Generator().manual_seed(0))
        x = x * levels / 255
    return Data.from_arrays(x=x)


def sampling(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Draw n samples of a saved run."""
    run = load_run(folder, data=_data(name))
    start = time.perf_counter()
    run.sample(n)
    return {"seconds": time.perf_counter() - start}


def measure(
    parts: Sequence[str], sampled: Sequence[str], device: torch.device, threads: int
) -> Iterator[dict[str, Any]]:
    """Yield the table's rows.

    Args:
        parts: Of `PARTS`, those that are measured.
        sampled: Of `SAMPLED`, those that are.
        device: Where.
        threads: Of torch.
    """

    def row(part: str, name: str, task: Callable[[], Any]) -> dict[str, Any]:
        where = {"hardware": hardware(device), "threads": threads, "load": load()}
        return {"part": part, "task": name, **apart(task, device, threads), **where}

    if "bound" in parts:
        for k, n in ((500, 10_000), (5000, 1000), (5000, 10_000)):
            name = f"bound, K = {k:,}, {n:,} images"
            yield row("bound", name, functools.partial(evaluation, k, n, device))
    if "training" in parts:
        for n in (200, 2000):
            yield row("training", f"training, {n:,} steps", functools.partial(training, n, device))
    if "sampling" in parts:
        for kind in sampled:
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                apart(functools.partial(trained, kind, run), device, threads)
                for n in DRAWN:
                    task = functools.partial(sampling, kind, run, n)
                    yield row("sampling", f"{kind}, {n:,} samples", task)


def table(result: dict[str, Any]) -> str:
    """Return a result as Markdown."""
    lines = ["| task | seconds | peak memory, MiB |", "| --- | --- | --- |"]
    lines += [
        f"| {r['task']} | {float(format(r['seconds'], '.2g')):g} | {r['mebibytes']:.0f} |"
        for r in result["rows"]
    ]
    note = "MiB beyond what each process began with, torch and Priory being imported."
    return "\n".join([*lines, "", f"{note} {kept.place(result['rows'])}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=[*PARTS])
    parser.add_argument("--sampled", nargs="*", choices=[*SAMPLED], default=[*SAMPLED])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=FILE)
    o = parser.parse_args(arguments)
    result: dict[str, Any] = {}
    kept_rows = json.loads(o.json.read_text())["rows"] if o.json.exists() else []
    rows = {row["task"]: row for row in kept_rows}
    for row in measure(o.parts, o.sampled, o.device, o.threads):
        print(
            f"{row['task']:32}{row['seconds']:9.1f} s{row['mebibytes']:9.0f} MiB",
            flush=True,
        )
        rows[row["task"]] = row
        result["rows"] = sorted(rows.values(), key=lambda r: PARTS.index(r["part"]))
        o.json.parent.mkdir(parents=True, exist_ok=True)
        o.json.write_text(json.dumps(result, indent=1) + "\n")
        if o.json == FILE:
            pages.write(footprint=table(result))


if __name__ == "__main__":
    main()
