"""Divergences of small and large sets, time and peak memory: python -m benchmarks.divergences.

Two sets of normal samples in single precision, one of them moved. Each figure comes from a process
for itself, in MiB beyond what it began with, with and without the gradient of one set.
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
from torch import Tensor

from benchmarks.apart import apart
from benchmarks.machine import hardware, load, synchronise
from priory.divergences import energy, gaussian, max_sliced, mmd, sinkhorn, sliced

FILE = Path(__file__).parent / "results" / "divergences.json"
CONTENDERS: dict[str, Callable[..., Tensor]] = {
    "mmd, imq": mmd,
    "mmd, rbf": functools.partial(mmd, kernel="rbf"),
    "mmd, rbf-mixture": functools.partial(mmd, kernel="rbf-mixture"),
    "energy": energy,
    "sinkhorn": sinkhorn,
    "sliced": sliced,
    "max-sliced": max_sliced,
    "gaussian": gaussian,
}


def once(name: str, n: int, gradient: bool, options: argparse.Namespace) -> dict[str, float | bool]:
    """Take one value, and its gradient if asked for, after one of small sets to warm up."""
    function = CONTENDERS[name]
    if name == "sinkhorn":
        function = functools.partial(function, steps=options.steps)
    stream = torch.Generator().manual_seed(options.seed)
    a, b = (torch.randn(n, options.dimensions, generator=stream) for _ in range(2))
    a, b = a.to(options.device), b.to(options.device) + 0.5

    def value(a: Tensor, b: Tensor) -> Tensor:
        a = a.detach().requires_grad_(gradient)
        found = function(a, b)
        if gradient:
            torch.autograd.grad(found, a)
        return found.detach()

    value(a[:50], b[:50])
    synchronise(options.device)
    # On a processor that others use too, only the time of this process means something.
    clock = time.process_time if options.device.type == "cpu" else time.perf_counter
    start = clock()
    found = value(a, b)
    synchronise(options.device)
    return {"value": float(found), "seconds": clock() - start}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the table, each the fastest of the repeats."""
    rows = []
    for name in options.names:
        for n in options.sizes:
            for gradient in (False, True):
                task = functools.partial(once, name, n, gradient, options)
                repeats = options.repeats if n < max(options.sizes) else 1
                found = [apart(task, options.device, options.threads) for _ in range(repeats)]
                row = {"name": name, "n": n, "gradient": gradient}
                row |= min(found, key=lambda r: r["seconds"])
                rows.append(row)
                print(
                    f"{name:18}{n:7}{' with gradient' if gradient else '':15}"
                    f"{row['seconds']:9.3f} s{row['mebibytes']:9.0f} MiB",
                    flush=True,
                )
    return rows


def table(result: dict[str, Any]) -> str:
    """Return a result as a table in Markdown."""
    rows = {(r["name"], r["n"], r["gradient"]): r for r in result["rows"]}
    kinds = [(n, gradient) for n in result["sizes"] for gradient in (False, True)]
    heads = [f"{n:,}{', with gradient' if gradient else ''}" for n, gradient in kinds]
    lines = [
        "| time and peak memory | " + " | ".join(heads) + " |",
        "| --- " * (len(heads) + 1) + "|",
    ]
    for name in dict.fromkeys(r["name"] for r in result["rows"]):
        cells = [rows[(name, *kind)] for kind in kinds]
        told = [f"{span(r['seconds'])}, {max(0, r['mebibytes']):.0f} MiB" for r in cells]
        lines.append(f"| {name} | {' | '.join(told)} |")
    pairs = max(result["sizes"]) ** 2 * 4 / 2**20
    return "\n".join(
        [
            *lines,
            "",
            f"Two sets of as many samples in {result['dimensions']} dimensions, single precision; "
            f"{result['steps']} steps of Sinkhorn. A matrix of all pairs of the larger sets would "
            f"take {pairs:.0f} MiB, and a value needs three. Memory is beyond what the process "
            "began with, the arithmetic's own set-up included; on a CPU the time is the process's "
            f"own. {result['hardware']}; load {result['load']:.1f} before; {result['repeats']} "
            "repeats of all but the largest, the fastest is reported; seed "
            f"{result['seed']}.",
        ]
    )


def span(seconds: float) -> str:
    """Return a time as text."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.divergences", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--dimensions", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100, help="of Sinkhorn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--names", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    parser.add_argument("--table", action="store_true", help="only print the table")
    o = parser.parse_args(arguments)
    if o.table:
        print(table(json.loads(FILE.read_text())))
        return
    torch.set_num_threads(o.threads)
    settings = {key: getattr(o, key) for key in ("sizes", "dimensions", "steps", "repeats", "seed")}
    result = {"hardware": hardware(o.device), "load": load(), **settings, "rows": measure(o)}
    if o.names == [*CONTENDERS]:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
