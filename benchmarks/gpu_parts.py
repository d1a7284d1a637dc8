"""What `benchmarks.gpu` measures by itself; every part returns what goes into its JSON.

Each takes the device, and whether to be small: a trial of the code rather than a measurement.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch

from benchmarks.apart import apart
from benchmarks.cases import CASES, RATE, Case, images
from benchmarks.contenders.by_priory import objective, pair
from benchmarks.footprint import evaluation
from benchmarks.machine import synchronise
from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO, SVI, Run
from priory.models import VAE
from priory.nets import MLP


def runs(device: torch.device, small: bool) -> list[dict[str, Any]]:
    """Train the one-layer VAE on binarised digits, here and on the CPU, and judge both.

    The test bounds must agree within four standard errors.

    Raises:
        RuntimeError: if they don't.
    """
    found = []
    for place in dict.fromkeys((device.type, "cpu")):
        trained = VAE("normal", MLP((200, 200), "tanh"), MLP((200, 200), "tanh"), "bernoulli", 50)
        steps = 20 if small else 1000
        data = Data.named("digits")
        run = fit(trained, ELBO(), data, steps=steps, device=place, valid_every=0, progress=False)
        particles = 10 if small else 1000
        nll = evaluate(run, particles=particles, metrics=["nll"], pictures=False)["nll"]
        value, error = float(nll.value or 0), float(nll.se or 0)
        found.append({"device": place, "seconds": run.seconds, "nll": value, "se": error})
    first, last = found[0], found[-1]
    if abs(first["nll"] - last["nll"]) > 4 * (first["se"] + last["se"]):
        raise RuntimeError(f"the two devices disagree: {found}")
    return found


def evaluating(device: torch.device, small: bool) -> dict[str, Any]:
    """Judge 10,000 images by the bound with K = 5000: seconds and peak memory."""
    particles, rows = (50, 200) if small else (5000, 10_000)
    task = functools.partial(evaluation, particles, rows, device)
    found = apart(task, device, torch.get_num_threads())
    return {"particles": particles, "images": rows, **found}


def resume(device: torch.device, small: bool) -> dict[str, Any]:
    """Train in one go, and in two with a resume between: the weights must be the same bits.

    Raises:
        RuntimeError: if they aren't.
    """
    n = 20 if small else 200
    data = Data.from_arrays(x=images(2000, torch.device("cpu")))
    common = {"batch_size": 100, "valid_every": 0, "device": device, "progress": False}

    def train(folder: Path, steps: int, resume: bool = False) -> Run:
        start = pair(CASES["vae"])
        return fit(start, ELBO(), data, steps=steps, folder=folder, resume=resume, **common)

    with tempfile.TemporaryDirectory() as folder:
        whole = train(Path(folder, "whole"), n)
        train(Path(folder, "parts"), n // 2)
        parts = train(Path(folder, "parts"), n, resume=True)
    left, right = (r.pair.state_dict() for r in (whole, parts))
    unlike = [name for name in left if not torch.equal(left[name], right[name])]
    if unlike:
        raise RuntimeError(f"not the same bits after a resume: {', '.join(unlike)}")
    return {"steps": n, "tensors": len(left), "same_bits": True}


def bf16(device: torch.device, small: bool) -> list[dict[str, Any]]:
    """Time steps in float32 and bfloat16; the mean losses must agree within 2%.

    Raises:
        RuntimeError: if they don't.
    """
    wide = replace(CASES["vae"], title="VAE, 2048 × 784, hidden 2048", batch=2048, hidden=2048)
    tiny = replace(CASES["vae"], title="tiny", batch=8, shape=(12,), hidden=8, latent=3)
    cases = [tiny] if small else [CASES["vae"], CASES["conv"], wide]
    found = []
    for case in cases:
        rows = [timed(case, precision, device, small) for precision in ("float32", "bf16")]
        first, second = (r["loss"] for r in rows)
        if not abs(first - second) <= 0.02 * abs(first):
            raise RuntimeError(f"{case.title}: losses {first:.2f} and {second:.2f}")
        found += rows
    return found


def timed(case: Case, precision: Any, device: torch.device, small: bool) -> dict[str, Any]:
    """Time a case's eager steps in a precision."""
    pyro.set_rng_seed(0)
    trained = pair(case)
    batches = case.batches(10, device)
    trained.build(batches[0])
    optimiser = functools.partial(torch.optim.Adam, lr=RATE, fused=True)
    programs = trained.model, trained.guide
    svi = SVI(*programs, optimiser, objective(case), precision=precision)
    times, losses = [], []
    with pyro.get_param_store().scope():
        for turn in range(2 if small else 20):
            synchronise(device)
            start = time.perf_counter()
            total = torch.stack([svi.step(x) for x in batches])
            synchronise(device)
            times.append((time.perf_counter() - start) / len(batches))
            losses = total.tolist() if turn else losses
    return {
        "case": case.title,
        "precision": precision,
        "milliseconds": 1e3 * statistics.median(times),
        "loss": statistics.fmean(losses),
    }


PARTS: dict[str, Callable[[torch.device, bool], Any]] = {
    "runs": runs,
    "evaluate": evaluating,
    "resume": resume,
    "bf16": bf16,
}
