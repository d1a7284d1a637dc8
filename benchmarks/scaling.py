"""What a training step costs as its sizes grow: python -m benchmarks.scaling.

Time and peak memory against particles, batch, rows of the data, and width of the latent, for Priory
eager and compiled and for PyTorch written by hand. The pair is the papers' table's
(784-200-200-50); all but the size that varies stay as the case "vae" has them. Each point comes
from a process of its own, and each step takes a fresh batch by random rows of the data. Writes
`benchmarks/results/scaling.json` and `scaling.png`.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure

from benchmarks.apart import apart
from benchmarks.cases import CASES, Case, images
from benchmarks.contenders import CONTENDERS
from benchmarks.machine import hardware, load, synchronise

RESULT = Path(__file__).parent / "results" / "scaling.json"
ROWS = 10_000
SIZES: dict[str, tuple[int, ...]] = {
    "particles": (1, 5, 50, 200),
    "batch": (32, 128, 512, 2048),
    "rows": (1_000, 10_000, 50_000, 100_000),
    "latent": (10, 50, 200, 500),
}
COLOURS = {"priory": "#0b6e99", "priory, compiled": "#d1661f", "torch": "#4d4d4d"}


def sized(name: str, size: int) -> tuple[Case, int]:
    """Return the case in which one size is another, and the rows of its data."""
    case = CASES["vae"]
    if name == "rows":
        return case, size
    if name == "particles":
        return replace(case, loss="iwae", batch=32, particles=size), ROWS
    return replace(case, **{name: size}), ROWS


def point(
    contender: str, case: Case, rows: int, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Time steps for a while.

    Args:
        contender: a name of `CONTENDERS`.
        case: what is trained.
        rows: of the data, which lie on the device.
        device: where.
        seconds: how long to measure, at least.
    """
    pyro.set_rng_seed(0)
    data = images(rows, device)
    entered = CONTENDERS[contender](case, device)

    def step() -> None:
        entered.step(data[torch.randint(rows, (case.batch,), device=device)])

    with pyro.validation_enabled(False), pyro.get_param_store().scope(entered.state):
        for _ in range(3):
            step()
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < 5 or time.perf_counter() - start < seconds:
            synchronise(device)
            began = time.perf_counter()
            step()
            synchronise(device)
            times.append(time.perf_counter() - began)
    return {"milliseconds": 1e3 * statistics.median(times), "steps": len(times)}


def measure(
    name: str,
    sizes: Sequence[int],
    contenders: Sequence[str],
    device: torch.device,
    threads: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Return a row per size and contender.

    Args:
        name: what varies, of `SIZES`.
        sizes: its values.
        contenders: names of `CONTENDERS`.
        device: where.
        threads: of torch.
        seconds: how long to time each point.
    """
    found = []
    for size in sizes:
        case, rows = sized(name, size)
        for contender in contenders:
            task = functools.partial(point, contender, case, rows, device, seconds)
            row = {"varies": name, "size": size, "contender": contender}
            row |= apart(task, device, threads)
            found.append(row)
            print(
                f"{name:10}{size:8}  {contender:18}{row['milliseconds']:10.2f} ms"
                f"{row['mebibytes']:9.0f} MiB",
                flush=True,
            )
    return found


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw time above memory, a column for each size that varies."""
    names = list(dict.fromkeys(r["varies"] for r in rows))
    titles = {
        "particles": "particles (batch 32)",
        "rows": "rows of the data",
        "latent": "latent coordinates",
    }
    figure = Figure(figsize=(2.9 * len(names), 5.2), layout="constrained")
    axes = figure.subplots(2, len(names), sharex="col", sharey="row", squeeze=False)
    measures = (("milliseconds", "ms per step"), ("mebibytes", "peak memory, MiB"))
    for (measure, label), line in zip(measures, axes, strict=True):
        line[0].set_ylabel(label)
        for name, axis in zip(names, line, strict=True):
            for contender, colour in COLOURS.items():
                own = [r for r in rows if (r["varies"], r["contender"]) == (name, contender)]
                if not own:
                    continue
                axis.plot(
                    [r["size"] for r in own],
                    [r[measure] for r in own],
                    "o-",
                    color=colour,
                    label=contender,
                    markersize=4,
                )
            axis.set(xscale="log", yscale="log" if measure == "milliseconds" else "linear")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    axes[1][0].set_ylim(bottom=0)
    for name, axis in zip(names, axes[1], strict=True):
        axis.set_xlabel(titles.get(name, name))
    axes[0][0].legend(frameon=False, fontsize=9)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the JSON and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--short", action="store_true", help="the ends of each scale only")
    parser.add_argument("--vary", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--contenders", nargs="+", choices=list(COLOURS), default=list(COLOURS))
    parser.add_argument("--seconds", type=float, default=2.0, help="to time each point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=RESULT, help="the picture stands beside it")
    o = parser.parse_args(arguments)
    began, rows = load(), []
    o.json.parent.mkdir(parents=True, exist_ok=True)
    for name in o.vary:
        values = (SIZES[name][0], SIZES[name][-1]) if o.short else SIZES[name]
        rows += measure(name, values, o.contenders, o.device, o.threads, o.seconds)
        head = {"device": o.device.type, "threads": o.threads, "load": began}
        o.json.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    head = {"hardware": hardware(o.device), **head}  # which starts CUDA: not before the last fork
    o.json.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    picture(rows).savefig(o.json.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
