"""Classical models on MNIST by the user's door, beside scikit-learn on the same rows.

    PRIORY_DATA=folder python -m benchmarks.classical --write

Naive Bayes' accuracy on the official test images, the log likelihood of probabilistic PCA and of
mixtures, each beside scikit-learn's figure or the one that is known; all 60,000 training images.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.decomposition import PCA
from sklearn.naive_bayes import BernoulliNB, GaussianNB

from benchmarks.machine import hardware, load
from priory import __version__
from priory.data import Data
from priory.inference import Run
from priory.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "classical.json"
FLOOR = 0.1  # of the variances of Gaussian naive Bayes
LATENT = 50
COMPONENTS = (10, 50)
SWEEPS = 40


def fitted(recipe: str, data: Data, **options: Any) -> tuple[Run, float]:
    """Return a run of a recipe, and its seconds."""
    started = time.perf_counter()
    run = RECIPES[recipe].fit(data, valid_every=0, progress=False, **options)
    return run, time.perf_counter() - started


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and its seconds."""
    started = time.perf_counter()
    return make(), time.perf_counter() - started


@torch.no_grad()
def naive(data: dict[str, Data]) -> list[dict[str, Any]]:
    """Return the lines of naive Bayes: accuracies on the test images."""
    lines = []
    for recipe, kind, title in (
        ("naive-bayes", "binary", "Bernoulli naive Bayes, pixels cut at 1/2"),
        ("gaussian-naive-bayes", "grey", f"Gaussian naive Bayes, floor {FLOOR:g}"),
    ):
        options = {"floor": FLOOR} if kind == "grey" else {}
        run, seconds = fitted(recipe, data[kind], **options)
        test = data[kind].test
        right = run.pair.classify(test.x).probs.argmax(-1) == test.columns["y"]
        share, (x, y) = float(right.double().mean()), arrays(data[kind].train)
        judge = GaussianNB() if kind == "grey" else BernoulliNB()
        theirs, other = timed(lambda judge=judge, x=x, y=y: judge.fit(x, y))
        lines.append(
            {
                "model": title,
                "what": "accuracy",
                "value": share,
                "se": math.sqrt(share * (1 - share) / len(right)),
                "beside": float(theirs.score(*arrays(test))),
                "seconds": seconds,
                "seconds_beside": other,
            }
        )
    return lines


@torch.no_grad()
def densities(data: dict[str, Data]) -> list[dict[str, Any]]:
    """Return the lines of mean log likelihoods, in nats, of test images."""
    run, seconds = fitted("ppca", data["grey"], latent=LATENT)
    x, _ = arrays(data["grey"].train)
    theirs, other = timed(lambda: PCA(LATENT, svd_solver="covariance_eigh").fit(x))
    lines = [
        {
            "model": f"probabilistic PCA, {LATENT} latents, greyscale",
            **likelihood(run, data["grey"]),
            "beside": float(theirs.score(arrays(data["grey"].test)[0])),
            "seconds": seconds,
            "seconds_beside": other,
        }
    ]
    for components in COMPONENTS:
        run, seconds = fitted(
            "bernoulli-mixture", data["binary"], components=components, steps=SWEEPS
        )
        title = f"Bernoulli mixture of {components}, pixels cut at 1/2"
        lines.append(
            {
                "model": title,
                **likelihood(run, data["binary"]),
                "beside": None,
                "seconds": seconds,
                "seconds_beside": None,
            }
        )
    return lines


def likelihood(run: Run, data: Data) -> dict[str, Any]:
    """Return the mean log likelihood of the test images, and its standard error."""
    values = run.pair.log_likelihood(data.test.x).double()
    se = float(values.std() / math.sqrt(len(values)))
    return {"what": "log p(x), nats", "value": float(values.mean()), "se": se}


def arrays(split: Any) -> tuple[Any, Any]:
    """Return a split's images as vectors, and its labels, as arrays."""
    return split.x.flatten(1).double().numpy(), split.columns["y"].numpy()


def table(result: dict[str, Any]) -> str:
    """Return a result as Markdown."""
    out = [
        "| model | measured | Priory | scikit-learn | seconds | scikit-learn's seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["lines"]:
        digits = 4 if row["what"] == "accuracy" else 2
        value = f"{row['value']:.{digits}f} ± {row['se']:.{digits}f}"
        beside = "-" if row["beside"] is None else f"{row['beside']:.{digits}f}"
        other = "-" if row["seconds_beside"] is None else f"{row['seconds_beside']:.1f}"
        cells = [row["model"], row["what"], value, beside, f"{row['seconds']:.1f}", other]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            *out,
            "",
            f"Trained on {result['rows']:,} images of MNIST, judged on the 10,000 test images, "
            "by exact likelihoods. Bernoulli naive Bayes at 0.8427 is the known figure of counts "
            "+ 1 over n + 2. scikit-learn's Gaussian naive Bayes adds 1e-9 of the largest variance "
            f"to all; here no variance is below {FLOOR:g} of the pixel's over all images. Its PCA "
            "divides by n - 1.",
            "",
            f"Measured on {result['hardware']}; load {result['load']:.1f}, so that the seconds are "
            "those of a busy machine where it is above 2.",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, help="training images; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {FILE.name}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = {"binary": "threshold", "grey": "none"}
    began = load()
    data = {
        kind: Data.named("mnist", valid=0, rows=args.rows, binarise=how)
        for kind, how in kinds.items()
    }
    result = {
        "lines": [*naive(data), *densities(data)],
        "rows": len(data["grey"].train),
        "hardware": hardware(torch.device("cpu")),
        "load": began,
        "priory": __version__,
    }
    if args.write:
        FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
