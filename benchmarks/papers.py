"""The papers' tables: what Priory obtains beside what was published.

    PRIORY_DATA=folder python -m benchmarks.papers vae iwae-5

trains and judges two rows and writes the table into README.md. A trial with other settings
(`--epochs 2 --particles 100 --limit 500`) prints its result and writes nothing.

Each row is the one-layer network of Burda, Grosse and Salakhutdinov (Importance Weighted
Autoencoders, 2016): 784-200-200-50, tanh, judged by the importance-weighted bound with K = 5000 on
all 10,000 test images, binarised once. A result is one JSON file under `benchmarks/results/papers`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import pages
from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO, IWAE, Objective, fit, load
from priory.models import VAE
from priory.nets import MLP
from priory.priors import GaussianMixture, Normal, Prior, StickBreaking, VampPrior

RESULTS = Path(__file__).parent / "results" / "papers"
LEARNING_RATE = 3e-3
PARTICLES = 5000


@dataclass(frozen=True)
class Row:
    """One line of the table: what is trained, for how long, and what was published."""

    title: str
    prior: Prior
    objective: Objective
    epochs: int
    published: str = "-"
    data: str = "mnist"


ROWS = {
    "vae": Row(
        "VAE, standard normal",
        Normal(),
        ELBO(),
        400,
        "86.76 (3,280 epochs); 90.26 (short schedule)",
    ),
    "iwae-5": Row(
        "IWAE, 5 particles", Normal(), IWAE(5), 250, "85.54 (3,280 epochs); 88.49 (short schedule)"
    ),
    "mixture": Row("VAE, mixture of 100", GaussianMixture(100), ELBO(), 120),
    "vamp": Row("VAE, VampPrior of 500", VampPrior(500), ELBO(), 80),
    "stick-breaking": Row("VAE, stick-breaking", StickBreaking(), ELBO(), 100),
    "vamp-static": Row(
        "VAE, VampPrior of 500",
        VampPrior(500),
        ELBO(),
        30,
        "85.57 (other network)",
        "static-mnist",
    ),
    "vae-static": Row(
        "VAE, standard normal", Normal(), ELBO(), 30, "88.71 (3,280 epochs)", "static-mnist"
    ),
}


def train(name: str, runs: Path, *, epochs: int | None, seed: int) -> Path:
    """Train a row and save the run."""
    row = ROWS[name]
    pair = VAE(row.prior, MLP((200, 200), "tanh"), MLP((200, 200), "tanh"), "bernoulli", 50)
    run = fit(
        pair,
        row.objective,
        Data.named(row.data),
        epochs=epochs or row.epochs,
        batch_size=128,
        lr=LEARNING_RATE,
        schedule="cosine",
        patience=30 if row.data == "static-mnist" else None,
        valid_every=5,
        seed=seed,
        on_epoch=lambda r: print(name, r, flush=True) if "bound" in r else None,
    )
    return run.save(runs / f"{name}-seed{seed}", overwrite=True)


def judge(name: str, runs: Path, *, particles: int, seed: int, limit: int | None) -> dict:
    """Judge a saved run on the test images."""
    run = load(runs / f"{name}-seed{seed}")
    columns = {k: v[:limit] for k, v in run.data.test.columns.items()}
    started = time.perf_counter()
    with run.scope():
        bounds = log_likelihood(run.pair.model, run.pair.guide, columns, particles)
    nll = -bounds.log_likelihood
    return {
        "row": name,
        "seed": seed,
        "nll": float(nll.mean()),
        "se": float(nll.std() / len(nll) ** 0.5),
        "elbo": float(bounds.elbo.mean()),
        "ess": float(bounds.ess.mean()),
        "particles": particles,
        "images": len(nll),
        "epochs": run.history[-1]["epoch"],
        "steps": run.history[-1]["step"],
        "train_seconds": run.seconds,
        "judge_seconds": time.perf_counter() - started,
        "threads": torch.get_num_threads(),
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| prior and objective | data | obtained | published | K | seeds | epochs | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    places = set()
    for name, row in ROWS.items():
        found = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"{name}-seed*.json"))]
        if not found:
            continue
        nlls = torch.tensor([r["nll"] for r in found])
        spread = f"{nlls.std():.2f} over seeds" if len(found) > 1 else f"{found[0]['se']:.2f}"
        minutes = sum(r["train_seconds"] for r in found) / len(found) / 60
        places |= {r["hardware"] for r in found}
        lines.append(
            f"| {row.title} | {row.data} | {nlls.mean():.2f} ± {spread} | {row.published} "
            f"| {found[0]['particles']} | {len(found)} | {found[0]['epochs']} | {minutes:.0f} min |"
        )
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(places))}."])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--judge", action="store_true", help="judge saved runs, train none")
    parser.add_argument("--train", action="store_true", help="train and save runs, judge none")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, help="in place of each row's own")
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--limit", type=int, help="judge only so many test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/papers"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.table:
        for name in args.rows or ROWS:
            if not args.judge:
                train(name, args.runs, epochs=args.epochs, seed=args.seed)
            if args.train:
                continue
            result = judge(
                name, args.runs, particles=args.particles, seed=args.seed, limit=args.limit
            )
            print(json.dumps(result), flush=True)
            if args.epochs is None and args.limit is None and args.particles == PARTICLES:
                RESULTS.mkdir(parents=True, exist_ok=True)
                file = RESULTS / f"{name}-seed{args.seed}.json"
                file.write_text(json.dumps(result, indent=1) + "\n")
                pages.write(papers=table())
    print(table())


if __name__ == "__main__":
    main()
