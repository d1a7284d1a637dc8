"""Outliers by likelihood: MNIST against Fashion-MNIST, each as the other's outliers.

    PRIORY_DATA=folder python -m benchmarks.outliers

For each set a VAE with a discretised logistic likelihood on greyscale pixels is trained, and
another one on a mutated copy of the set as the background of the likelihood ratio.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.evaluation.insight import auroc, bound, code_length, mutate
from priory.evaluation.report.canvas import CLASSES, DATA, SOFT, canvas, legend, plain
from priory.evaluation.rows import thin
from priory.inference import ELBO, Run, fit
from priory.likelihoods import DiscretizedLogistic
from priory.models import VAE
from priory.nets import MLP

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "outliers.json"
SETS = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
SCORES = {
    "bound": "bound on log p(x)",
    "ratio": "likelihood ratio",
    "complexity": "bound plus code length",
}


def train(x: Tensor, options: argparse.Namespace) -> Run:
    """Train the VAE on images."""
    hidden = (options.hidden, options.hidden)
    pair = VAE("normal", MLP(hidden), MLP(hidden), DiscretizedLogistic(), options.latent)
    return fit(
        pair,
        ELBO(),
        Data.from_arrays(x, valid=0.0, test=0.0),
        epochs=options.epochs,
        lr=1e-3,
        schedule="cosine",
        clip=100.0,
        valid_every=0,
        progress=False,
        seed=options.seed,
    )


def contest(name: str, images: dict[str, Tensor], options: argparse.Namespace) -> tuple[dict, dict]:
    """Train on one set, score both, and return the areas and the scores."""
    started = time.perf_counter()
    x = Data.named(name, binarise="none").train.x
    stream = torch.Generator().manual_seed(options.seed)
    run = train(x, options)
    background = train(mutate(x, options.rate, stream), options)
    trained = time.perf_counter() - started
    scores: dict[str, dict[str, Tensor]] = {score: {} for score in SCORES}
    for key, test in images.items():
        log_p, log_b = (bound(r, test, particles=options.particles) for r in (run, background))
        scores["bound"][key] = log_p
        scores["ratio"][key] = log_p - log_b
        scores["complexity"][key] = log_p + code_length(test)
    (other,) = set(images) - {name}
    row = {
        "inside": name,
        "outside": other,
        "areas": {score: [*auroc(found[name], found[other])] for score, found in scores.items()},
        "nll": {key: float(-found.mean()) for key, found in scores["bound"].items()},
        "train_seconds": trained,
        "seconds": time.perf_counter() - started,
    }
    return row, scores


def table(result: dict) -> str:
    """Return the table as Markdown."""
    lines = [
        f"| trained on | outliers | {' | '.join(SCORES.values())} |",
        f"| --- | --- |{' --- |' * len(SCORES)}",
    ]
    for row in result["rows"]:
        cells = [f"{value:.3f} ± {se:.3f}" for value, se in row["areas"].values()]
        names = (SETS[row["inside"]], SETS[row["outside"]])
        lines.append(f"| {' | '.join([*names, *cells])} |")
    return "\n".join(
        [
            *lines,
            "",
            "Area under the receiver operating characteristic ± its standard error; 1/2 is chance, "
            "less takes outliers for data. VAEs with a discretised logistic likelihood on "
            f"greyscale pixels, {result['latent']} latents, {result['epochs']} epochs; bounds with "
            f"K = {result['particles']} on {result['images']} test images of each set; the ratio's "
            f"background is trained on images of which {result['rate']:.0%} of the pixels are "
            "random.",
            "",
            f"Measured on {result['hardware']}.",
        ]
    )


def picture(result: dict, scores: dict[str, dict[str, dict[str, Tensor]]]) -> object:
    """Draw the histograms of every score for data and outliers."""
    figure = canvas(3.3 * len(SCORES), 2.5 * len(scores) + 0.4)
    figure.suptitle(
        "Scores of data and of outliers, by the set that a model is trained on",
        x=0.01, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    for i, row in enumerate(result["rows"]):
        for j, score in enumerate(SCORES):
            axes = figure.add_subplot(len(scores), len(SCORES), i * len(SCORES) + j + 1)
            found = scores[row["inside"]][score]
            both = torch.cat(list(found.values()))
            low, high = both.quantile(torch.tensor([0.005, 0.995]).to(both)).tolist()
            edges = torch.linspace(low, high, 51).tolist()
            for key, colour in ((row["inside"], CLASSES[0]), (row["outside"], CLASSES[1])):
                label = SETS[key] + (" (trained on)" if key == row["inside"] else "")
                values = found[key].clamp(low, high).numpy()
                axes.hist(values, edges, color=colour, alpha=0.6, label=label)
            area = row["areas"][score][0]
            axes.set_title(f"{SCORES[score]}: {area:.3f}", fontsize=10, loc="left")
            axes.set_yticks([])
            axes.set_xlabel("nats", fontsize=9, color=SOFT)
            plain(axes)
            axes.spines["left"].set_color(DATA)
            if j == 0:
                legend(axes)
    return figure


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--latent", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.2, help="share of mutated pixels")
    parser.add_argument("--images", type=int, default=2000, help="test images of each set")
    parser.add_argument("--particles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(FILE.read_text())))
        return
    images = {
        name: thin({"x": Data.named(name, binarise="none").test.x}, args.images)["x"]
        for name in SETS
    }
    rows, scores = [], {}
    for name in args.sets:
        row, scores[name] = contest(name, images, args)
        rows.append(row)
        print(row, flush=True)
    options = {n: v for n, v in vars(args).items() if n not in ("sets", "table")}
    result = {
        "rows": rows,
        **options,
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }
    if len(rows) == len(SETS):
        RESULTS.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(result, indent=1) + "\n")
        figure = picture(result, scores)
        figure.savefig(RESULTS / "outliers.png", dpi=130, bbox_inches="tight")
    print(table(result))


if __name__ == "__main__":
    main()
