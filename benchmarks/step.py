"""The time of one training step: Priory beside its peers, in one process.

Every case is a pair, an objective and a batch of binary images that lies on the device (see
`benchmarks/cases.py`). The contenders (`benchmarks/contenders`): Priory, eager and by a graph;
PyTorch written by hand, eager and compiled; `pyro.infer.SVI`; NumPyro's SVI under jax.jit;
Pythae's models. Who is not installed, or has no such loss, is left out and named.

First every contender takes the same steps on the same batches, alone, which compiles what it has
to compile. Its mean loss must then be within 5% of the others', or it counts as failed. In each
round every contender takes the same number of steps, in a fresh order. A contender's time is the
median over rounds, its ratio the median of the rounds' ratios to PyTorch written by hand, eager.
The floor is the time that the step's matrix products and convolutions alone would take at the rate
of large matrix products, measured in the same rounds.

    python -m benchmarks.step --rounds 30 --threads 2
    python -m benchmarks.step --device cuda --cases vae iwae
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import CASES, Case
from benchmarks.contenders import CONTENDERS, PEER, Contender, Missing
from benchmarks.machine import confine, hardware, load, products, synchronise, versions

RESULT = Path(__file__).parent / "results" / "step.json"
TOLERANCE = 0.05
STEPS_CUDA = 20  # per turn
FIRST = 3  # steps until a contender has compiled what it has to


def seconds(contender: Contender, batches: Sequence[Any], device: torch.device) -> float:
    """Time a step, averaged over some batches."""
    store = pyro.get_param_store()
    with pyro.validation_enabled(contender.validation), store.scope(contender.state):
        synchronise(device)
        start = time.perf_counter()
        for x in batches:
            contender.step(x)
        contender.wait()
        synchronise(device)
        return (time.perf_counter() - start) / len(batches)


def losses(contender: Contender, batches: Sequence[Any]) -> list[float]:
    """Take a step on each batch and return the losses per datum, in nats."""
    store = pyro.get_param_store()
    with pyro.validation_enabled(contender.validation), store.scope(contender.state):
        values = [contender.step(x) for x in batches]
    return [float(v) / contender.size - contender.constant for v in values]


def disagreeing(means: dict[str, float]) -> dict[str, str]:
    """Name the contenders whose mean loss is another than the median one, and say so."""
    middle = statistics.median(means.values())
    return {
        name: f"its loss is {mean:.2f}, the others' {middle:.2f}"
        for name, mean in means.items()
        if not abs(mean - middle) <= TOLERANCE * abs(middle)
    }


def operations(contender: Contender, batch: Tensor) -> int:
    """Count the operations of a step's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        contender.step(batch)
    return counter.get_total_flops()


class Contest:
    """The contenders of one case, warmed up and of one mind about the loss.

    Args:
        case: what is trained.
        device: where.
        names: contenders to admit.
        warm: steps that each takes beforehand; the case's own number if None.
    """

    def __init__(
        self, case: Case, device: torch.device, names: Sequence[str], warm: int | None = None
    ) -> None:
        self.case, self.device = case, device
        self.entered: dict[str, Contender] = {}
        self.batches: dict[str, list[Any]] = {}
        self.first: dict[str, float] = {}
        self.losses: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        x = case.batches(case.steps, device)
        for name in names:
            pyro.set_rng_seed(0)
            try:
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    self._enter(name, x, case.warm if warm is None else warm)
                eager = [str(w.message) for w in seen if "runs eager" in str(w.message)]
                self.failed |= {name: eager[0]} if eager else {}
            except Missing as reason:
                self.left_out[name] = str(reason)
            except Exception as error:  # one contender's error is not the others'
                self.failed[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        self.failed |= disagreeing(self.losses)
        self.entered = {n: c for n, c in self.entered.items() if n not in self.failed}
        if PEER not in self.entered:
            raise RuntimeError(f"there is nothing to compare with: {self.failed}")
        self.operations = operations(self.entered[PEER], x[0])

    def _enter(self, name: str, x: Tensor, warm: int) -> None:
        start = time.perf_counter()
        contender = CONTENDERS[name](self.case, self.device)
        batches = [contender.convert(batch) for batch in x]
        early = losses(contender, [batches[i % len(batches)] for i in range(FIRST)])
        self.first[name] = time.perf_counter() - start
        rest = [batches[i % len(batches)] for i in range(FIRST, warm)]
        late = (early + losses(contender, rest))[-len(batches) :]
        self.losses[name] = statistics.fmean(late)
        self.entered[name], self.batches[name] = contender, batches

    def round(self, order: Sequence[str]) -> dict[str, float]:
        """Return the seconds per step of each contender, and of the matrix products alone."""
        times = {n: seconds(self.entered[n], self.batches[n], self.device) for n in order}
        return {**times, "": self.operations / products(self.device)}

    def measure(self, rounds: int) -> dict[str, Any]:
        """Return the case's part of the result.

        Args:
            rounds: how often every contender has its turn.
        """
        order, shuffle = list(self.entered), random.Random(0).shuffle
        times = []
        for _ in range(rounds):
            shuffle(order)
            times.append(self.round(order))
        rows = [row(name, times) for name in self.entered]
        for r in rows:
            r |= {"first_seconds": self.first[r["contender"]], "loss": self.losses[r["contender"]]}
        return {
            "title": self.case.title,
            "steps": self.case.steps,
            "rows": rows,
            "floor": {**row("", times), "operations": self.operations},
            "left_out": self.left_out,
            "failed": self.failed,
        }


def row(name: str, times: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the median time of a contender, its quartiles, and its ratio to the peer."""
    own = [t[name] for t in times]
    low, middle, high = (
        statistics.quantiles(own, n=4, method="inclusive") if len(own) > 1 else own * 3
    )
    return {
        "contender": name,
        "milliseconds": 1e3 * middle,
        "quartiles": [1e3 * low, 1e3 * high],
        "ratio": statistics.median(t[name] / t[PEER] for t in times),
    }


def show(result: dict[str, Any]) -> str:
    """Return a case's result as text."""
    lines = [result["title"], f"{'':22}{'ms per step':>12}{'ratio':>8}{'first s':>9}{'loss':>9}"]
    for r in result["rows"]:
        lines.append(
            f"{r['contender']:22}{r['milliseconds']:12.3f}{r['ratio']:8.2f}"
            f"{r['first_seconds']:9.1f}{r['loss']:9.2f}"
        )
    floor = result["floor"]
    lines.append(f"{'(matrix products)':22}{floor['milliseconds']:12.3f}{floor['ratio']:8.2f}")
    for word in ("left_out", "failed"):
        lines += [f"{word.replace('_', ' ')}: {n}: {why}" for n, why in result[word].items()]
    return "\n".join(lines)


def prime(device: torch.device) -> None:
    """Pay for the compiler's own start, which is no contender's."""
    x = torch.ones(8, device=device, requires_grad=True)
    torch.compile(lambda x: x.cos().sum())(x).backward()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the JSON after every case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), help="all by default")
    parser.add_argument("--rounds", type=int, default=30, help="turns of every contender")
    parser.add_argument("--warm", type=int, help="steps before the first round")
    parser.add_argument("--threads", type=int, default=2, help="of every library")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=RESULT, help="the file to write")
    options = parser.parse_args(arguments)
    how = confine(options.threads, options.device)
    names = [n for n in CONTENDERS if n in {PEER, *(options.contenders or CONTENDERS)}]
    result: dict[str, Any] = {
        "hardware": hardware(options.device),
        "versions": versions(),
        "threads": how,
        "load": load(),
        "rounds": options.rounds,
        "peer": PEER,
        "cases": {},
    }
    print(f"{result['hardware']}; {how}; load {result['load']:.2f}")
    with tempfile.TemporaryDirectory() as cache:  # so that compilation is not read from a cache
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        prime(options.device)
        for name in options.cases:
            case = CASES[name]
            if options.device.type == "cuda":
                case = replace(case, steps=STEPS_CUDA)
            contest = Contest(case, options.device, names, options.warm)
            result["cases"][name] = contest.measure(options.rounds)
            print("\n" + show(result["cases"][name]), flush=True)
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nload {load():.2f}; written to {options.json}")
    sys.exit(any(case["failed"] for case in result["cases"].values()))


if __name__ == "__main__":
    main()
