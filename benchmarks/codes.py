"""Categorical codes on MNIST: clusters, few labels and InfoGAN's code, beside the papers' numbers.

    PRIORY_DATA=folder python -m benchmarks.codes clusters-16 infogan --seeds 3

trains and judges two rows and writes the table into README.md. A result is one JSON file per row,
and a picture of samples by code, under `benchmarks/results/codes`. A trial with other settings
(`--epochs 2`) prints its result and writes nothing.

Clusters are named by the most confident validation row of each, as Makhzani et al. do; a code that
labels have taught is taken as it is; InfoGAN's values are matched to the classes one to one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import pages
from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.evaluation import evaluate
from priory.evaluation.latents.categorical import code_hits, transferred_hits
from priory.evaluation.latents.clustering import hungarian_hits
from priory.evaluation.report.canvas import image_grid, tile
from priory.inference import Run
from priory.recipes import RECIPES

RESULTS = Path(__file__).parent / "results" / "codes"
VALID = 10_000
STYLES = 12  # columns of the picture
_CRITIC = "critic=(mlp:{w},{w})"
_CLUSTERS = f"reconstruction:cost=squared + 10*adversarial:c:{_CRITIC} + 10*adversarial:z:{_CRITIC}"
_FEW = f"reconstruction:cost=squared + 10*adversarial:c,z:{_CRITIC} + 10*classification:c"
_AUTOENCODER: dict[str, Any] = {
    "encoder": "mlp:{w},{w}:batch_norm=true",
    "decoder": "mlp:{w},{w}:batch_norm=true",
    "likelihood": "continuous-bernoulli",
    "noise": 0.3,
}


@dataclass(frozen=True)
class Row:
    """One line of the table: what is trained, for how long, how it is judged, what was published.

    Args:
        title: what the table calls it.
        recipe: whose name it is in the zoo.
        epochs: passes over the training rows.
        judge: "named" by validation rows, "direct", or "matched" one to one.
        published: the paper's error in percent, and where that is known from.
        labelled: training rows whose label is seen; all if it is None.
        options: of the pair and of `fit`; {w} stands for the width.
    """

    title: str
    recipe: str
    epochs: int
    judge: str
    published: str
    labelled: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _clusters(values: int, published: str) -> Row:
    # Few coordinates of style leave the most to the code.
    options = {**_AUTOENCODER, "codes": values, "latent": 3, "objective": _CLUSTERS}
    return Row(f"AAE, {values} clusters", "aae-clusters", 10, "named", published, None, options)


def _few(title: str, labelled: int | None, published: str) -> Row:
    options = {**_AUTOENCODER, "latent": 10, "objective": _FEW}
    return Row(f"AAE, {title}", "aae-semi", 20, "direct", published, labelled, options)


ROWS = {
    "clusters-16": _clusters(16, "9.55 ± 2.05"),
    "clusters-30": _clusters(30, "4.10 ± 1.13"),
    "labels-100": _few("100 labels", 100, "1.90 ± 0.10"),
    "labels-1000": _few("1,000 labels", 1000, "1.60 ± 0.08"),
    "labels-all": _few("all labels", None, "0.85"),
    "infogan": Row(
        "InfoGAN, code of 10 values",
        "infogan",
        8,
        "matched",
        "5",
        None,
        {
            "encoder": "mlp:{w},{w}:batch_norm=true",
            "generator": "mlp:{w},{w}:batch_norm=true:output=sigmoid",
            "latent": 16,
            "noise": 1.0,
            "objective": "adversarial:x:critic=(mlp:{w},{w}:leaky-relu-0.2):rate=0.5 + sleep:c "
            "+ 0.1*sleep:u",
        },
    ),
}


def train(name: str, args: argparse.Namespace, seed: int) -> Run:
    """Train a row on MNIST in greyscale, with the last 10,000 training rows for validation."""
    row = ROWS[name]
    data = Data.named(
        "mnist", binarise="none", valid=VALID, rows=args.rows, labelled=row.labelled, seed=seed
    )
    options = {
        k: v.replace("{w}", str(args.width)) if isinstance(v, str) else v
        for k, v in row.options.items()
    }
    options |= dict(pair.split("=", 1) for pair in args.set)
    return RECIPES[row.recipe].fit(
        data,
        **options,
        epochs=args.epochs or row.epochs,
        lr=args.lr,
        valid_every=0,
        seed=seed,
        progress=False,
    )


@torch.no_grad()
def judge(name: str, run: Run) -> dict[str, float]:
    """Return the code's error on the test images, in percent, and its information, in nats."""
    probabilities, labels = {}, {}
    for part in ("valid", "test"):
        split = getattr(run.data, part)
        probabilities[part] = torch.cat(
            [run.pair.encoder(x)[0].probs for x in split.snapshot().split(1000)]
        )
        labels[part] = split.columns["y"]
    given, found = ((probabilities[part], labels[part]) for part in ("valid", "test"))
    hits = {
        "named": lambda: transferred_hits(given, found),
        "direct": lambda: code_hits(*found),
        "matched": lambda: hungarian_hits(found[0].argmax(1), found[1]),
    }[ROWS[name].judge]()
    report = evaluate(run, metrics=["code_information"], pictures=False)
    return {
        "error": 100 * float(1 - hits.double().mean()),
        "se": 100 * float(hits.double().std() / len(hits) ** 0.5),
        "information": report["code_information"].value,
    }


def by_code(run: Run) -> Tensor:
    """Draw a row for each value of the code, with the same styles in all: `(values, n, *x)`."""
    values = run.pair.codes
    styles = run.sample(STYLES)
    given = {
        site: styles[site].repeat(values, *[1] * (styles[site].dim() - 1))
        for site in ("z", "u")
        if site in styles
    }
    given["c"] = torch.eye(values).repeat_interleave(STYLES, 0)
    drawn = run.sample(values * STYLES, given=given)
    return drawn.get("x_mean", drawn["x"]).unflatten(0, (values, STYLES)).cpu()


def picture(name: str, generated: Tensor) -> Figure:
    """Draw samples `(values, n, *x)`: a row of images for each value, a column for each style."""
    title = f"Samples by code: {ROWS[name].title}"
    grid = tile(generated.flatten(0, 1), generated.shape[1])
    return image_grid(1 - grid, title, "each row has one value of c, each column one style")


def results() -> dict[str, dict[str, Any]]:
    """Return what has been measured, by row."""
    files = {name: RESULTS / f"{name}.json" for name in ROWS}
    return {name: json.loads(f.read_text()) for name, f in files.items() if f.exists()}


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| code | error in % | published | information in nats | seeds | epochs | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    places = set()
    for name, result in results().items():
        runs = result["runs"]
        errors = np.array([r["error"] for r in runs])
        spread = f" ± {errors.std(ddof=1):.2f}" if len(runs) > 1 else ""
        told = np.mean([r["information"] for r in runs])
        minutes = np.mean([r["seconds"] for r in runs]) / 60
        places.add(result["hardware"])
        lines.append(
            f"| {ROWS[name].title} | {errors.mean():.2f}{spread} | {ROWS[name].published} | "
            f"{told:.3f} | {len(runs)} | {result['epochs']} | {minutes:.1f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "MNIST in greyscale, 50,000 training rows, fully connected nets; ± is the standard "
            "deviation over seeds; minutes per seed. Clusters are named by the most confident of "
            "10,000 validation rows each, InfoGAN's values matched one to one. The information is "
            "the bound H(c) + log q(c | x) on samples; at most log 10 = 2.303, log 16 = 2.773, "
            "log 30 = 3.401. The published figures are of Makhzani et al., 2016, Adversarial "
            "autoencoders (up to 5,000 epochs), and Chen et al., 2016, InfoGAN (5,000 steps, "
            "convolutional nets).",
            "",
            f"Measured on {'; '.join(sorted(places))}.",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of each row's own")
    parser.add_argument("--rows", type=int, help="training rows; all by default")
    parser.add_argument("--width", type=int, default=256, help="of all nets")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="other options of a recipe, name=text")
    parser.add_argument("--save", action="store_true", help="keep the result of a trial too")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    torch.set_num_threads(args.threads)
    trial = args.epochs or args.rows or args.set
    for name in args.names or ROWS:
        runs = []
        for seed in range(args.seeds):
            started, worked = time.perf_counter(), time.process_time()
            run = train(name, args, seed)
            seconds, worked = time.perf_counter() - started, time.process_time() - worked
            runs.append({**judge(name, run), "seconds": seconds, "processor": worked, "seed": seed})
            print(name, runs[-1], flush=True)
        result = {
            "row": name,
            "runs": runs,
            "epochs": args.epochs or ROWS[name].epochs,
            "rows": len(run.data.train),
            "width": args.width,
            "lr": args.lr,
            "set": args.set,
            "threads": args.threads,
            "hardware": hardware(torch.device("cpu")),
            "priory": __version__,
        }
        if args.save or not trial:
            RESULTS.mkdir(parents=True, exist_ok=True)
            figure = picture(name, by_code(run))
            figure.savefig(RESULTS / f"{name}.png", dpi=110, bbox_inches="tight")
            (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            pages.write(codes=table())
    print(table())


if __name__ == "__main__":
    main()
