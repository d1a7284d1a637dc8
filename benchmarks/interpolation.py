"""Arithmetic with codes on MNIST: a VAE against principal components and naive Bayes.

    PRIORY_DATA=folder python -m benchmarks.interpolation runs/vae20

Each test image is moved from its class to the nine others by the difference of the classes' mean
codes; a logistic regression on pixels says what the moved images show. The run is a VAE with one
latent site on MNIST; it is fed the greyscale images, as are the others.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.machine import hardware
from priory import __version__, load
from priory.data import Data
from priory.evaluation.interpolation import (
    Codec,
    Judge,
    along,
    arithmetic,
    class_moments,
    pair_paths,
)
from priory.evaluation.interpolation.vector_arithmetic import ALPHAS
from priory.evaluation.report.canvas import CLASSES, SOFT, new_axes
from priory.evaluation.report.ways import ways
from priory.evaluation.rows import rows_of, thin

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "interpolation.json"
SHOWN = tuple(i / 4 for i in range(7))
PAIRS = 3  # columns of rows in the picture of all pairs
SEVENS = 2
JUDGE = 0.9198  # published accuracy of a logistic regression


def judged(codec: Codec, judge: Judge, train: dict, test: dict, pool: dict) -> tuple[dict, dict]:
    """Return a codec's line of the table, and its pictures' images."""
    started = time.perf_counter()
    z = codec.encode(train["x"])
    centroids = class_moments(z.cpu(), train["y"])
    found = arithmetic(codec, judge, test["x"], test["y"], centroids)
    moved = torch.cat(
        [
            codec.decode(codec.encode(test["x"]) + (c - centroids.mean[found.source]).to(z))
            for c in centroids.mean
        ]
    )
    goal = torch.arange(len(centroids.mean)).repeat_interleave(len(found.source))
    elsewhere = goal != found.source.repeat(len(centroids.mean))
    distance, neighbour = nearest(moved[elsewhere], pool["x"])
    hits = centroids.classes[goal[elsewhere]] == pool["y"][neighbour]
    near = torch.zeros(2, len(goal), dtype=torch.float64)
    near[:, elsewhere] = torch.stack([distance.double(), hits.double()])
    distance, hits = (found.elsewhere(part.view(len(centroids.mean), -1).T) for part in near)
    target = found.elsewhere(found.target)
    row = {
        "codec": codec.name,
        "coordinates": z.shape[1],
        "half_squared_error": _mean(found.error / 2),
        "target": _mean(target[:, found.at(1.0)]),
        "identity": _mean(found.elsewhere(found.own[:, :, found.at(0.0)])),
        "round_trip": _mean(found.elsewhere(found.round_trip) / 2),
        "neighbour": _mean(hits),
        "distance": _mean(distance),
        "path_target": target.mean(0).tolist(),
        "path_own": found.elsewhere(found.own).mean(0).tolist(),
        "by_pair": found.by_pair(found.target[:, :, found.at(1.0)]).tolist(),
        "seconds": time.perf_counter() - started,
    }
    sevens = (test["y"] == 7).nonzero()[:SEVENS, 0]
    vector = centroids.mean[0] - centroids.mean[6]
    images = {
        "sevens": along(codec, test["x"][sevens], vector, SHOWN),
        "pairs": pair_paths(codec, test["x"], test["y"], centroids, SHOWN),
    }
    return row, images


def nearest(x: Tensor, pool: Tensor, block: int = 1000) -> tuple[Tensor, Tensor]:
    """Return each image's distance to the nearest one of a pool, and that one's row."""
    flat, pool = rows_of(x).float(), rows_of(pool).float()
    found = [torch.cdist(part, pool).min(1) for part in flat.split(block)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _mean(values: Tensor) -> list[float]:
    return [float(values.mean()), float(values.double().std() / math.sqrt(len(values)))]


def table(result: dict) -> str:
    """Return the table as Markdown."""
    lines = [
        "| moved by class means of | half squared error | the same there and back | own class kept "
        "| class moved to | by nearest neighbour | distance to training images |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        cells = [
            *(_cell(row[name], 2) for name in ("half_squared_error", "round_trip")),
            *(_cell(row[name], 3) for name in ("identity", "target", "neighbour")),
            _cell(row["distance"], 2),
        ]
        lines.append(f"| {' | '.join([row['codec'], *cells])} |")
    accuracy, se = result["judge"]
    return "\n".join(
        [
            *lines,
            "",
            f"{result['images']} test images of MNIST in greyscale, each moved to the nine other "
            "classes; ± is the standard error over images. Kept and moved to are probabilities by "
            f"a logistic regression on pixels, right on {accuracy:.4f} ± {se:.4f} of the test "
            f"images (published: {JUDGE}): of the own class after encoding and decoding, and of "
            "the class moved to. Being linear, it is content with a mixture of two images; by "
            f"nearest neighbour is the share of moved images whose nearest of {result['pool']} "
            "training images is of the class moved to. The last column is the distance to it; that "
            f"of real test images is {_cell(result['distance'], 2)}. The half squared error of a "
            "published VAE of 20 latents is at most 3.43, computed from its printed training loss "
            "(wangz10/Generative-Models).",
            "",
            f"Measured on {result['hardware']}.",
        ]
    )


def _cell(value: list[float], digits: int) -> str:
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def pairs_picture(frames: Tensor, name: str) -> Figure:
    """Draw the 45 rows of a codec: an image of each class on its way to every later one."""
    a, b = torch.triu_indices(10, 10, 1).tolist()
    labels = [f"{start} → {end}" for start, end in zip(a, b, strict=True)]
    title = f"From each digit to every later one, by class means of the codes: {name}"
    return ways(frames, labels, SHOWN, title, PAIRS)


def sevens_picture(frames: dict[str, Tensor]) -> Figure:
    """Draw sevens moved along the vector from the sixes' centroid to the zeros'."""
    labels = [name if i == 0 else "" for name, part in frames.items() for i in range(len(part))]
    title = "What turns a six into a zero, added to a seven"
    return ways(torch.cat(list(frames.values())), labels, SHOWN, title)


def paths_picture(result: dict) -> Figure:
    """Draw the judge's probabilities along the way, averaged over the 90 ordered pairs."""
    figure, axes = new_axes(
        "What the judge sees on the way to another class",
        "weight α of the difference of class means",
        "probability",
        note="mean over images and 9 targets; full line: class moved to, dashed: own class",
    )
    for row, colour in zip(result["rows"], CLASSES, strict=False):
        axes.plot(result["alphas"], row["path_target"], c=colour, lw=2)
        axes.plot(result["alphas"], row["path_own"], c=colour, lw=1.4, ls="--")
    ends = sorted(
        (row["path_target"][-1], row["codec"], c)
        for row, c in zip(result["rows"], CLASSES, strict=False)
    )
    last = -1.0
    for height, name, colour in ends:
        last = max(height, last + 0.05)
        axes.annotate(
            name, (result["alphas"][-1], last), xytext=(6, 0), textcoords="offset points",
            color=colour, fontsize=10, va="center", annotation_clip=False,
        )  # fmt: skip
    axes.axvline(1.0, c=SOFT, lw=0.8, ls=":")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, result["alphas"][-1])
    return figure


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, help="folder of a VAE trained on MNIST")
    parser.add_argument("--images", type=int, default=2000, help="test images that are moved")
    parser.add_argument("--pool", type=int, default=10_000, help="training images to be near to")
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(FILE.read_text())))
        return
    if args.run is None:
        parser.error("give the folder of a run, or --table")
    data, run = Data.named("mnist", binarise="none", valid=5000), load(args.run)
    train = {name: data.train.columns[name] for name in ("x", "y")}
    test = {name: data.test.columns[name] for name in ("x", "y")}
    judge = Judge(train["x"], train["y"])
    accuracy = _mean(judge.hits(test["x"], test["y"]))
    few, pool = thin(test, args.images), thin(train, args.pool)
    latent = run.pair.latent
    codecs = [
        Codec.of_pair(run.pair.model, run.pair.guide, train, name=f"VAE {latent}"),
        Codec.pca(train["x"], latent),
        Codec.identity(data.shape, "pixels (naive Bayes)"),
    ]
    rows, images = [], {}
    for codec in codecs:
        with run.scope():
            row, images[codec.name] = judged(codec, judge, train, few, pool)
        rows.append(row)
        print({name: value for name, value in row.items() if name not in ("by_pair",)}, flush=True)
    result = {
        "rows": rows,
        "alphas": list(ALPHAS),
        "judge": accuracy,
        "images": len(few["x"]),
        "pool": len(pool["x"]),
        "distance": _mean(nearest(few["x"], pool["x"])[0]),
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    first = codecs[0].name
    pictures = {
        "interpolation_pairs": pairs_picture(images[first]["pairs"], first),
        "seven_along": sevens_picture({n: part["sevens"] for n, part in images.items()}),
        "interpolation_paths": paths_picture(result),
    }
    for name, figure in pictures.items():
        figure.savefig(RESULTS / f"{name}.png", dpi=130, bbox_inches="tight")
    print(table(result))


if __name__ == "__main__":
    main()
