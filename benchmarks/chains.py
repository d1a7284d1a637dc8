"""Diffusions of the digits by what the net says, and by what it is trained for.

    python -m benchmarks.chains x0 bound

trains and judges rows and keeps their results under `benchmarks/results/chains`. A trial with other
settings (`--steps 200 --limit 50`) prints its result and writes nothing.

The digits keep their 17 levels. The net is the recipe's, residual layers; the weights are averaged
(Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020; Nichol and Dhariwal, Improved
denoising diffusion probabilistic models, 2021). The bound sums all steps, one draw of each for
every test image; samples are compared with as many test images. Diffusions of MNIST are in
`benchmarks.families`.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks import kept, pages
from priory import evaluate
from priory.recipes import RECIPES

TABLE = "chains"
METRICS = ("nll", "bits_per_dim", "frechet", "mmd", "precision", "recall")
STEPS, IMAGES = 3000, 360

_COSINE = {"noise": "cosine", "variance": "learned"}
# what the net says, and how it is trained; options of `ddpm`
ROWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "noise": ("noise, as in the paper", "squared error", {}),
    "v": ("v, cosine", "squared error", {"target": "v", "noise": "cosine"}),
    "x0": ("the datum, cosine", "squared error", {"target": "x0", "noise": "cosine"}),
    "bound": ("v, cosine, learned variance", "bound",
              {**_COSINE, "target": "v", "objective": "steps:bound"}),
    "x0-bound": ("the datum, cosine, learned variance", "bound",
                 {**_COSINE, "target": "x0", "objective": "steps:bound"}),
}  # fmt: skip


def measure(name: str, *, steps: int | None, limit: int | None, seed: int) -> dict[str, Any]:
    """Train and judge one row.

    Args:
        name: Of the row.
        steps: Of the training; the row's own if None.
        limit: Test images, and samples; the row's own if None.
        seed: Of the training.
    """
    images = limit or IMAGES
    started = time.process_time()
    run = RECIPES["ddpm"].fit(
        "digits",
        **ROWS[name][2],
        steps=steps or STEPS,
        valid_every=0,
        seed=seed,
        progress=False,
    )
    trained = time.process_time() - started
    report = evaluate(
        run, metrics=[*METRICS], particles=1, limit=images, n_samples=images, pictures=False
    )
    found: dict[str, Any] = {
        "row": name,
        "seed": seed,
        "steps": run.history[-1]["step"],
        "parameters": sum(p.numel() for p in run.pair.parameters()),
        "train_cpu_seconds": trained,
        "judge_cpu_seconds": time.process_time() - started - trained,
    }
    return found | kept.circumstances() | kept.figures(report)


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| the net says | trained by | -log p(x), nats | bits per dim | Frechet (real) | mmd "
        "| precision | recall | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        said, by, _ = ROWS[r["row"]]
        nll, mmd = kept.cell(r["nll"], ".1f"), kept.cell(r["mmd"], ".1f", 1000)
        near = f"{r['frechet']['value']:.1f} ({r['frechet_real']['value']:.1f})"
        lines.append(
            f"| {said} | {by} | {nll} | {r['bits_per_dim']['value']:.2f} | {near} | {mmd} "
            f"| {r['precision']['value']:.2f} | {r['recall']['value']:.2f} "
            f"| {r['train_cpu_seconds'] / 60:.1f} |"
        )
    note = f"Upper bounds; {IMAGES} samples against as many test images, mmd times 1000. One seed."
    return "\n".join([*lines, "", f"{note} {kept.place(found)}"])


def main() -> None:
    """Run the command line."""
    args = kept.arguments(__doc__, ROWS)
    for name in args.rows:
        found = measure(name, steps=args.steps, limit=args.limit, seed=args.seed)
        print(table([found]), f"\n{found['train_cpu_seconds'] / found['steps']:.4f} CPU s a step")
        if not (args.steps or args.limit):
            kept.keep(TABLE, found)
            pages.write(chains=table())


if __name__ == "__main__":
    main()
