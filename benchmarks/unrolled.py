"""A deep autoencoder unrolled from Boltzmann machines, beside the same net from random weights.

    python -m benchmarks.unrolled

trains and judges each row with two seeds, in seconds, and keeps the results under
`benchmarks/results/unrolled`. Digits of bits, a code of 8 coordinates, layers of 128, 64 and 32;
the net is trained by the cross entropy for 60 epochs, after 20 of each machine, or for the 140 of
all. Judged by the test rows' reconstructions from their codes: the cross entropy, in nats, and the
squared error, each per image.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from benchmarks import kept
from priory.inference import Reconstruction, Run, fit
from priory.models import VAE
from priory.nets import MLP
from priory.recipes import RECIPES

TABLE = "unrolled"
ROWS = {  # title, epochs of the net from random weights
    "unrolled": ("unrolled from four machines, 4 x 20 + 60", None),
    "random": ("from random weights, 60", 60),
    "random-long": ("from random weights, 140", 140),
}
_RECIPE = RECIPES["deep-autoencoder"]
_SHARED = ("batch_size", "lr", "schedule", "valid_every")


def train(name: str, seed: int) -> Run:
    """Train one row.

    Args:
        name: Of the row.
        seed: Of the training.
    """
    data, epochs = _RECIPE.own_data(), ROWS[name][1]
    if epochs is None:
        return _RECIPE.fit(data, seed=seed, progress=False)
    layers, latent = _RECIPE.pair().layers, _RECIPE.pair().latent
    nets = MLP(layers, "sigmoid"), MLP(layers[::-1], "sigmoid")
    pair = VAE("normal", *nets, latent=latent, deterministic=True)
    options = {n: v for n, v in _RECIPE.training.items() if n in _SHARED}
    return fit(pair, Reconstruction(), data, epochs=epochs, seed=seed, progress=False, **options)


@torch.no_grad()
def measure(name: str, seed: int) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        seed: Of the training.
    """
    began = time.process_time()
    with torch.enable_grad():
        run = train(name, seed)
    trained = time.process_time()
    pair, x = run.pair.eval(), run.data.test.x
    given = pair.decoder(pair.encoder(x).mean)
    errors = {
        "cross_entropy": -given.log_prob(x),
        "squared_error": (given.mean - x).square().flatten(1).sum(1),
    }
    found = {n: [float(e.mean()), float(e.std()) / len(x) ** 0.5] for n, e in errors.items()}
    cost = {"train_cpu_seconds": trained - began}
    return {"row": name, "seed": seed, **found, **cost, **kept.circumstances()}


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| net, epochs | seed | cross entropy, nats | squared error | CPU seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in found:
        cells = [f"{r[n][0]:.2f} ± {r[n][1]:.2f}" for n in ("cross_entropy", "squared_error")]
        own = f"{r['seed']} | {' | '.join(cells)} | {r['train_cpu_seconds']:.0f}"
        lines.append(f"| {ROWS[r['row']][0]} | {own} |")
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    args = parser.parse_args()
    for name in args.rows:
        for seed in args.seeds:
            found = measure(name, seed)
            print(table([found]), flush=True)
            kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
