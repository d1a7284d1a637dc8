"""What a training step of each recipe costs: time, eager and by a graph, and peak memory.

Every recipe as it is in the zoo, on its default data, with its own batch size. All
ways of running a step take the same number of steps in each round, in a fresh order; a time is the
median over rounds, a ratio the median of the rounds' ratios to the eager step. The peak memory is
that of a process of its own which trains the recipe by `fit`, beyond what it began with.

    python -m benchmarks.zoo --rounds 10
    python -m benchmarks.zoo --recipes vae wgan-gp --modes off trace --device cuda

Rows that are measured by themselves join those of the file, with the load of their own time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyro
import torch

from benchmarks.apart import apart
from benchmarks.machine import confine, hardware, load, synchronise
from priory.data import Data
from priory.inference import SVI
from priory.inference.loop import train_mode
from priory.inference.phases.arguments import build
from priory.recipes import RECIPES, Recipe

FILE = Path(__file__).parent / "results" / "zoo.json"
MODES = {"off": "eager", "trace": "traced", "inductor": "compiled", "cudagraph": "captured"}
UNCOMPILED = ("variational-walkback",)  # of 10,000 operations: 10 minutes of C++ did not end it
STEPS = 10  # per turn
WARM = 6
TRAINED = 100  # steps of the process whose memory is taken


class Stepper:
    """Takes steps of a recipe in one way.

    Args:
        recipe: which.
        data: what on.
        mode: `compile` of `SVI`.
    """

    def __init__(self, recipe: Recipe, data: Data, mode: str) -> None:
        pyro.set_rng_seed(0)
        self.pair, objective, options = recipe.prepare()
        with pyro.get_param_store().scope() as self.state:
            build(self.pair, data.train.resident().snapshot(), data.train.columns)
            self.pair.to(data.device)
            optim = functools.partial(options.get("optim", torch.optim.Adam), lr=_rate(options))
            self.svi = SVI(self.pair.model, self.pair.guide, optim, objective, compile=mode)
            train_mode(self.pair, objective)
            size = min(options.get("batch_size", 128), len(data.train))
            drawn = data.train.batches(size, shuffle=True, drop_last=True)
            self.batches = list(itertools.islice(drawn, STEPS))
            self.svi.prepare(**self.batches[0])
        self.size = size

    def seconds(self, steps: int) -> float:
        """Return the seconds per step."""
        device = self.batches[0]["x"].device
        with pyro.get_param_store().scope(self.state), pyro.validation_enabled(False):
            synchronise(device)
            start = time.perf_counter()
            for i in range(steps):
                self.svi.step(**self.batches[i % len(self.batches)])
            synchronise(device)
            return (time.perf_counter() - start) / steps


def stepped() -> list[str]:
    """Return the recipes whose steps follow a gradient; a sweep of EM is as long as the data."""
    return [name for name, recipe in RECIPES.items() if not recipe.objective().whole]


def _rate(options: dict[str, Any]) -> float:
    return float(options.get("lr", 1e-3))


def trained(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Train a recipe for some steps through the whole loop."""
    run = recipe.fit(
        steps=TRAINED, device=str(device), valid_every=0, compile="off", progress=False
    )
    return {"loss": run.history[-1]["loss"]}


def row(recipe: Recipe, modes: Sequence[str], rounds: int, device: torch.device) -> dict[str, Any]:
    """Return a recipe's line of the table."""
    data = recipe.own_data().to(device)
    steppers, told = {}, {}
    for mode in modes:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            stepper = Stepper(recipe, data, mode)
            stepper.seconds(WARM)
        eager = [str(w.message) for w in seen if "eager" in str(w.message)]
        told |= {mode: eager[0]} if eager else {}
        steppers[mode] = stepper
    order, times = list(steppers), []
    for _ in range(rounds):
        random.Random(len(times)).shuffle(order)
        times.append({mode: steppers[mode].seconds(STEPS) for mode in order})
    return {
        "recipe": recipe.name,
        "data": recipe.data,
        "batch": steppers[modes[0]].size,
        "players": 1 + len(steppers[modes[0]].svi.critics),
        "milliseconds": {m: 1e3 * statistics.median(t[m] for t in times) for m in modes},
        "ratio": {m: statistics.median(t[m] / t[modes[0]] for t in times) for m in modes},
        "engine": {m: steppers[m].svi.engine for m in modes},
        "told": told,
    }


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    modes = result["modes"]
    head = ["recipe", "data", "batch", "players", f"{MODES[modes[0]]}, ms"]
    head += [f"{MODES[m]}, ms (ratio)" for m in modes[1:]] + ["peak memory, MiB"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for r in result["rows"]:
        cells = [r["recipe"], r["data"], str(r["batch"]), str(r["players"])]
        cells.append(f"{r['milliseconds'][modes[0]]:.2f}")
        for m in modes[1:]:
            if m not in r["milliseconds"]:
                cells.append("-")
                continue
            text = f"{r['milliseconds'][m]:.2f} ({r['ratio'][m]:.2f})"
            cells.append(f"{text}, {r['engine'][m]}" if r["engine"][m] != MODES[m] else text)
        lines.append(f"| {' | '.join([*cells, format(r['mebibytes'], '.0f')])} |")
    typical = [
        f"{statistics.median(ratios):.2f} {MODES[m]}"
        for m in modes[1:]
        if (ratios := [r["ratio"][m] for r in result["rows"] if m in r["ratio"]])
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {result['rounds']} interleaved rounds of {STEPS} steps; a step is one of "
            "every player, with its critic's steps. Peak memory of a process that trains "
            f"{TRAINED} steps by `fit`, data and libraries included, beyond the start's. The "
            f"median ratio over the recipes is {', '.join(typical)}. Chains whose graphs are too "
            "long to be compiled in some minutes are not compiled here (-), nor by default.",
            "",
            f"Measured on {result['hardware']}; load {result['load']:.1f} before.{_later(result)}",
        ]
    )


def _later(result: dict[str, Any]) -> str:
    """Say which rows were measured by themselves, and how."""
    later = [r for r in result["rows"] if "load" in r]
    if not later:
        return ""
    names = ", ".join(r["recipe"] for r in later)
    rounds, loads = [r["rounds"] for r in later], [r["load"] for r in later]
    return (
        f" By themselves, in {min(rounds)} to {max(rounds)} rounds at loads of {min(loads):.1f} to "
        f"{max(loads):.1f}, so that their milliseconds are those of a busy machine: {names}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--recipes", nargs="*", choices=stepped(), default=stepped())
    parser.add_argument(
        "--modes", nargs="*", choices=[*MODES], default=["off", "trace", "inductor"]
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=FILE)
    o = parser.parse_args(arguments)
    began, rows = load(), []
    measured = {
        name: apart(functools.partial(trained, RECIPES[name], o.device), o.device, o.threads)
        for name in o.recipes
    }
    confine(o.threads, o.device)
    for name in o.recipes:
        modes = [m for m in o.modes if m != "inductor" or name not in UNCOMPILED]
        found = row(RECIPES[name], modes, o.rounds, o.device)
        found |= {"mebibytes": measured[name]["mebibytes"]}
        rows.append(found)
        times = ", ".join(f"{MODES[m]} {t:.2f} ms" for m, t in found["milliseconds"].items())
        print(f"{name:20}{times}, {found['mebibytes']:.0f} MiB", flush=True)
        for mode, reason in found["told"].items():
            print(f"  {MODES[mode]}: {reason}", flush=True)
    result = {
        "hardware": f"{hardware(o.device)}, {o.threads} thread{'s' * (o.threads > 1)}",
        "load": began,
        "rounds": o.rounds,
        "modes": o.modes,
        "rows": rows,
    }
    former = json.loads(o.json.read_text()) if o.json.exists() else {}
    o.json.parent.mkdir(parents=True, exist_ok=True)
    o.json.write_text(json.dumps(joined(former, result), indent=1) + "\n")


def joined(former: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return new rows among those of a former result, in the order of the recipes.

    Args:
        former: of the same machine and modes; any other is forgotten.
        result: the new one.
    """
    if any(former.get(key) != result[key] for key in ("hardware", "modes")):
        return result
    own = {key: result[key] for key in ("load", "rounds")}
    rows = {row["recipe"]: row for row in former["rows"]}
    rows |= {row["recipe"]: row | own for row in result["rows"]}
    if {*rows} == {row["recipe"] for row in result["rows"]}:
        return result
    return former | {"rows": [rows[name] for name in stepped() if name in rows]}


if __name__ == "__main__":
    main()
