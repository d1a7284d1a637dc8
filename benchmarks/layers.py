"""One layer of latents and two, by the bounds of Burda et al., and the ladder; on dynamic MNIST.

    PRIORY_DATA=folder python -m benchmarks.layers one-iwae two-iwae

trains and judges rows and keeps their results under `benchmarks/results/layers`. A trial with other
settings (`--steps 200 --particles 100 --limit 500`) prints its result and writes nothing.

The networks are those of Burda, Grosse and Salakhutdinov (Importance Weighted Autoencoders, 2016):
784-200-200-50 with one layer, 784-200-200-100-100-100-50 with two, tanh; the ladder (Sonderby et
al., 2016) has 64 and 32 latents and, as the paper, batch normalisation and one particle. Each has a
cosine from 3e-3 and is judged by the bound with K = 5000 on 2,500 test images, evenly spaced,
binarised once.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import kept
from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

TABLE = "layers"
EPOCHS, BATCH, PARTICLES, IMAGES = 120, 100, 5000, 2500

_TANH = {"encoder": "mlp:200,200:tanh", "decoder": "mlp:200,200:tanh"}
_ONE = ("hierarchical-vae", {**_TANH, "latents": "50"})
_TWO = ("two-layer-vae", {})
_NORMED = "mlp:512,512:leaky-relu:batch_norm=true"
_LADDER = (
    "ladder-vae",
    {"encoder": _NORMED, "decoder": _NORMED, "latents": "64,32", "widths": "512,256"},
)
# title, recipe and its options, objective, published
ROWS: dict[str, tuple[str, tuple[str, dict[str, str]], str, str]] = {
    "one-vae": ("1 layer, VAE", _ONE, "elbo", "86.76"),
    "one-iwae": ("1 layer, IWAE-5", _ONE, "iwae:5", "85.54"),
    "one-dreg": ("1 layer, DReG-5", _ONE, "iwae:5:gradient=dreg", "84.90 (nbip)"),
    "two-vae": ("2 layers, VAE", _TWO, "elbo", "85.33"),
    "two-iwae": ("2 layers, IWAE-5", _TWO, "iwae:5", "83.89"),
    "two-dreg": ("2 layers, DReG-5", _TWO, "iwae:5:gradient=dreg", "-"),
    "ladder": ("ladder, 2 layers", _LADDER, "elbo:beta=(linear:0.01:1:6000)", "81.74 (5 layers)"),
}


def measure(
    name: str, *, length: dict[str, int], particles: int, limit: int | None, seed: int
) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        length: `epochs` or `steps` of the training.
        particles: K of the bound.
        limit: Test images; all if None.
        seed: Of the training.
    """
    _, (recipe, options), objective, _ = ROWS[name]
    run = RECIPES[recipe].fit(
        Data.named("mnist"),
        **options,
        **length,
        objective=objective,
        batch_size=BATCH,
        lr=3e-3,
        schedule="cosine",
        valid_every=5,
        seed=seed,
        progress=False,
    )
    metrics = ["nll", "elbo", "kl", "active_units", "layer_loss"]
    report = evaluate(run, metrics=metrics, particles=particles, limit=limit, pictures=False)
    last = run.history[-1]
    found: dict[str, Any] = {
        "row": name,
        "seed": seed,
        "epochs": last["epoch"],
        "steps": last["step"],
        "particles": particles,
        "train_seconds": run.seconds,
        "rates": {k: v for k, v in last.items() if k.startswith("kl.")},
    }
    return found | kept.circumstances() | kept.figures(report)


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| network and bound | -log p(x), K | published | active units | KL by layer | lost "
        "without | epochs | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        title, _, _, published = ROWS[r["row"]]
        units, kl, loss = (r[m]["note"].split(" nats")[0].split(";")[0] for m in
                           ("active_units", "kl", "layer_loss"))  # fmt: skip
        if not r["rates"]:
            units = f"z1 {r['active_units']['value']:.0f} {units}"
            kl, loss = f"z1 {r['kl']['value']:.3g}", "-"
        nll = f"{r['nll']['value']:.2f} ± {r['nll']['se']:.2f}"
        lines.append(
            f"| {title} | {nll}, {r['particles']:,} | {published} | {units} | {kl} | {loss} "
            f"| {r['epochs']} | {r['train_seconds'] / 60:.0f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    trial = args.steps or (args.limit, args.particles) != (IMAGES, PARTICLES)
    length = {"steps": args.steps} if args.steps else {"epochs": args.epochs}
    for name in args.rows:
        found = measure(
            name, length=length, particles=args.particles, limit=args.limit, seed=args.seed
        )
        print(table([found]), f"\n{found['train_seconds'] / found['steps']:.4f} s a step")
        if not trial:
            kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
