"""Few labels on MNIST: M1, M2, M1+M2 and M2 with stick-breaking latents, beside the papers' errors.

    PRIORY_DATA=folder python -m benchmarks.few_labels m2-3000 --seed 0

trains and judges one row, and keeps its result under `benchmarks/results/few_labels`; python -m
benchmarks.readme makes the table. A trial with other settings (`--steps 500`, `--set lr=1e-3`) is
judged on the 10,000 validation rows, prints its result and writes nothing: by such trials the
settings were chosen.

Labels are as many of each class as can be, of the first 50,000 training images; images are
binarised afresh in each batch, and the test images once. Each row trains on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import kept
from priory import evaluate
from priory.data import Data
from priory.evaluation import Report
from priory.inference import Run
from priory.recipes import RECIPES

TABLE = "few_labels"
VALID, BATCH, PARTICLES, IMAGES = 10_000, 100, 100, 1000
KINGMA, SMYTH = "Kingma et al., 2014", "Nalisnick and Smyth, 2017"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        title: What the table calls it.
        recipe: Its name in the zoo.
        labelled: Training rows whose label is seen, of 50,000.
        options: Of the recipe.
        published: The paper's error in percent.
        source: Of that figure.
    """

    title: str
    recipe: str
    labelled: int
    options: dict[str, Any]
    published: str
    source: str


def _nets(width: int, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, f"mlp:{width}")


_M1 = {
    **_nets(500, "encoder", "decoder"),
    "classifier": "mlp:300",
    "latent": 50,
    "objective": "elbo + classification:y",
    "steps": 25_000,
    "lr": 1e-3,
}
_M2 = {
    **_nets(256, "encoder", "classifier", "decoder"),
    "latent": 50,
    "objective": "labelled-elbo + 50*classification:y",
    "steps": 12_000,
    "lr": 1e-3,
}
_M2_3000 = {**_M2, "classifier": "mlp:512,512", "latent": 8, "schedule": "cosine"}
_BOTH = {
    **_nets(500, "encoder", "decoder"),
    **_nets(300, "classifier", "upper_encoder", "upper"),
    "latents": (50, 10),
    "objective": "of:m2:(labelled-elbo + 0.5*classification:y)",
    "m1.steps": 12_000,
    "m1.lr": 1e-3,
    "steps": 22_000,
    "lr": 1e-3,
}


def _share(percent: int, recipe: str, title: str, published: str) -> Row:
    """Return a row of the table by shares of labels."""
    options = {**_M2, "steps": 10_000}  # sticks cost more: as many for both
    return Row(f"{title}, {percent}%", recipe, 500 * percent, options, published, SMYTH)


ROWS = {
    "m1-1000": Row("M1", "m1", 1000, _M1, "4.24 (with a TSVM)", KINGMA),
    "m2-3000": Row("M2", "m2", 3000, _M2_3000, "3.92", KINGMA),
    "m1-m2-100": Row("M1+M2", "m1-m2", 100, _BOTH, "3.33 ± 0.14", KINGMA),
    "m1-m2-1000": Row("M1+M2", "m1-m2", 1000, _BOTH, "2.40", KINGMA),
    "m2-1": _share(1, "m2", "M2", "11.55"),
    "sb-1": _share(1, "sb-dgm", "SB-DGM", "7.34"),
    "m2-5": _share(5, "m2", "M2", "4.74"),
    "sb-5": _share(5, "sb-dgm", "SB-DGM", "5.29"),
    "m2-10": _share(10, "m2", "M2", "3.95"),
    "sb-10": _share(10, "sb-dgm", "SB-DGM", "4.86"),
}


def train(name: str, seed: int, changed: dict[str, Any]) -> Run:
    """Train a row on MNIST; the data's seed decides which rows show their label.

    Args:
        name: Of the row.
        seed: Of the training and of the labelled rows.
        changed: Options in place of the row's.
    """
    row = ROWS[name]
    data = Data.named("mnist", valid=VALID, labelled=row.labelled, seed=seed)
    options = {**row.options, **changed}
    return RECIPES[row.recipe].fit(
        data,
        batch_size=BATCH,
        valid_every=0,
        compile="trace",
        seed=seed,
        progress=False,
        **options,
    )


def judge(run: Run, split: str) -> dict[str, Any]:
    """Return the error of the run's classifier and the bound on log p(x), of a split's rows."""

    def judged(*metrics: str, **options: Any) -> Report:
        return evaluate(run, metrics=[*metrics], split=split, pictures=False, **options)

    bound = judged("nll", particles=PARTICLES, limit=IMAGES)
    return kept.figures(judged("accuracy", "label_nll")) | kept.figures(bound)


def measure(name: str, seed: int, changed: dict[str, Any], split: str) -> dict[str, Any]:
    """Train and judge one row."""
    started = time.process_time()
    run = train(name, seed, changed)
    trained = time.process_time()
    return {
        "row": name,
        "seed": seed,
        "split": split,
        **judge(run, split),
        "steps": run.history[-1]["step"],
        "particles": PARTICLES,
        "images": IMAGES,
        "train_cpu_seconds": trained - started,
        "judge_cpu_seconds": time.process_time() - trained,
        **kept.circumstances(),
    }


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table() -> str:
    """Return the kept results as Markdown."""
    lines = [
        "| model | labels | test error in % | published | source | -log p(y \\| x) | -log p(x), "
        "nats | seed | steps | CPU minutes |",
        "| --- " * 10 + "|",
    ]
    found = results()
    for r in found:
        row = ROWS[r["row"]]
        error, se = 100 * (1 - r["accuracy"]["value"]), 100 * r["accuracy"]["se"]
        lines.append(
            f"| {row.title} | {row.labelled:,} | {error:.2f} ± {se:.2f} | {row.published} "
            f"| {row.source} | {r['label_nll']['value']:.3f} | {r['nll']['value']:.2f} ± "
            f"{r['nll']['se']:.2f} | {r['seed']} | {r['steps']:,} "
            f"| {r['train_cpu_seconds'] / 60:.1f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("row", choices=[*ROWS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--set", action="append", default=[], help="a trial's option=value")
    args = parser.parse_args()
    torch.set_num_threads(1)
    changed: dict[str, Any] = dict(pair.split("=", 1) for pair in args.set)
    changed |= {"steps": args.steps} if args.steps else {}
    found = measure(args.row, args.seed, changed, "valid" if changed else "test")
    print(json.dumps(found))
    if not changed:
        kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
