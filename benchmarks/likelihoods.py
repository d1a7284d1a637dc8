"""How near the estimators of log p(x) come to it, and in what time.

    PRIORY_DATA=folder python -m benchmarks.likelihoods runs/papers/vae-seed0

judges one saved run on a few test images by the K-sample bound and by annealed importance sampling,
and on as many of its own samples by annealing forwards and back (bidirectional Monte Carlo); then
takes the time of the bound on all test images. A trial with other settings (`--few 10 --steps 50`)
prints its result; only with `--write` is `benchmarks/results/likelihoods.json` written.

On samples the truth lies between the forward and the reverse estimate, so the gap bounds the mean
error of annealing; the bound's own error on samples is what the reverse estimate leaves of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import hardware, load
from priory import __version__
from priory.evaluation.likelihood.ais import CHAINS, annealed_log_likelihood
from priory.evaluation.likelihood.bidirectional import bidirectional
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.likelihood.hmc import LEAPFROGS
from priory.evaluation.likelihood.pareto import THRESHOLD
from priory.evaluation.rows import check, read, thin
from priory.inference import load as load_run

FILE = Path(__file__).parent / "results" / "likelihoods.json"
PARTICLES = 5000


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function makes, and the seconds that it took."""
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def line(what: str, values: Tensor, seconds: float | None, **facts: Any) -> dict[str, Any]:
    """Return one line of the table: mean of log p(x) and its standard error over the data."""
    se = float(values.std() / len(values) ** 0.5)
    return {"estimate": what, "mean": float(values.mean()), "se": se, "seconds": seconds, **facts}


def bound_line(what: str, bounds: Bounds, seconds: float, particles: int) -> dict[str, Any]:
    """Return the line of a K-sample bound, with how far its weights are to be trusted."""
    heavy = float((bounds.khat > THRESHOLD).double().mean())
    return line(
        what,
        bounds.log_likelihood,
        seconds,
        particles=particles,
        ess=float(bounds.ess.mean()),
        khat_above=heavy,
    )


def measure(
    run: Any, *, particles: int, steps: int, chains: int, few: int, limit: int | None, seed: int
) -> dict[str, Any]:
    """Measure one run.

    Args:
        run: a loaded run.
        particles: K of the bounds.
        steps: temperatures.
        chains: of annealing, for each datum.
        few: test images, and samples, that annealing looks at.
        limit: test images that the bound is timed on; all if `None`, none if 0.
        seed: of all draws.
    """
    pair = (run.pair.model, run.pair.guide)
    everything = check(read(run.data.test))
    rows = thin(everything, few)
    annealing = {"steps": steps, "chains": chains}
    lines = []
    with run.scope():
        bounds, seconds = timed(lambda: log_likelihood(*pair, rows, particles, seed))
        lines.append(bound_line("bound, data", bounds, seconds, particles))
        found, seconds = timed(lambda: annealed_log_likelihood(*pair, rows, **annealing, seed=seed))
        facts = {**annealing, "ess": float(found.ess.mean())}
        facts["acceptance"] = float(found.acceptance.mean())
        lines.append(line("annealed, data", found.log_likelihood, seconds, **facts))
        gain = found.log_likelihood - bounds.log_likelihood
        lines.append(line("annealed less bound, data", gain, None))
        both, seconds = timed(lambda: bidirectional(*pair, rows, **annealing, seed=seed))
        lines.append(line("forward, samples", both.lower, seconds, **annealing))
        lines.append(line("reverse, samples", both.upper, seconds, **annealing))
        lines.append(line("reverse less forward, samples", both.upper - both.lower, None))
        generated = {**rows, "x": both.x}
        bounds, seconds = timed(lambda: log_likelihood(*pair, generated, particles, seed))
        lines.append(bound_line("bound, samples", bounds, seconds, particles))
        left = both.upper - bounds.log_likelihood
        lines.append(line("reverse less bound, samples", left, None))
        if limit != 0:
            every = thin(everything, limit)
            bounds, seconds = timed(lambda: log_likelihood(*pair, every, particles, seed))
            lines.append(
                {
                    **bound_line("bound, all data", bounds, seconds, particles),
                    "images": len(bounds.ess),
                }
            )
    return {
        "lines": lines,
        "few": few,
        "leapfrogs": LEAPFROGS,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "load": load(),
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }


def table(result: dict[str, Any]) -> str:
    """Return a result as Markdown."""
    out = ["| log p(x), nats | mean | K or steps x chains | seconds |", "| --- | --- | --- | --- |"]
    for row in result["lines"]:
        how = str(row.get("particles", "-"))
        if "steps" in row:
            how = f"{row['steps']} x {row['chains']}"
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
        rows = f" ({row['images']:,} images)" if "images" in row else ""
        out.append(
            f"| {row['estimate']}{rows} | {row['mean']:.3f} ± {row['se']:.3f} | {how} | {seconds} |"
        )
    return "\n".join([*out, "", f"{result['few']} rows, on {result['hardware']}."])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a saved run")
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=CHAINS)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--limit", type=int, help="images of the timed bound; 0 for none")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {FILE.name}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = vars(args)
    result = measure(
        load_run(args.run),
        **{k: options[k] for k in ("particles", "steps", "chains", "few", "limit", "seed")},
    )
    if args.write:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
