"""Families of generative models on equal terms: greyscale MNIST, one budget, one judge.

    PRIORY_DATA=folder python -m benchmarks.families vae ddpm

trains and judges rows, keeps their results under `benchmarks/results/families`, and writes the
table into README.md and docs/results.md. A trial with another length (`--steps 20 --limit 50`)
prints its result and writes nothing.

Every row is a recipe with named options, on the same 60,000 images with their 256 levels, for four
to eleven minutes of one core. All rows are judged alike: bits per dimension on test images, evenly
spaced, for those that have a bound, and as many samples as there are test images judged against
test images. Figures of test rows chose no option, but they were seen: the lengths of `vae`, `gan`,
`glow` and `gsn` were raised after a first run, to be like the others', the limit of MAF's scales
was set where its samples had not been finite, and infusion is trained by its bound, since its other
training (`objective=infuse`) had bounds above 13 bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks import kept, pages
from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

TABLE = "families"
PICTURE = kept.FOLDER / "families.png"
METRICS = ("frechet", "mmd", "precision", "recall", "coverage")
SAMPLES, SHOWN, TIMED = 500, 16, 100

_UNET = {"net": "unet:24:1,2,3:1", "batch_size": 64}
_NETS = {"encoder": "mlp:500,500", "decoder": "mlp:500,500"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        title: What the table calls it.
        recipe: Its name in the zoo.
        steps: Of the training.
        options: Of the recipe, besides.
        images: Test images of the bound.
        particles: Draws of it.
    """

    title: str
    recipe: str
    steps: int
    options: dict[str, Any]
    images: int = 1000
    particles: int = 1


ROWS = {
    "vae": Row(
        "VAE, discretised logistic",
        "vae",
        24_000,
        {**_NETS, "latent": 32, "likelihood": "logistic", "batch_size": 128, "lr": 1e-3},
        particles=200,
    ),
    "gan": Row("GAN of convolutions", "dcgan", 9000, {"batch_size": 64}),
    "maf": Row(
        "flow, MAF", "maf", 6000, {"flow": "maf:5:500:steepest=10", "lr": 1e-3}, particles=20
    ),
    "glow": Row("flow, Glow", "glow", 4500, {"batch_size": 64}, images=500, particles=20),
    "flow-matching": Row("flow matching", "flow-matching", 2500, _UNET, images=100),
    "ddpm": Row("diffusion, DDPM", "ddpm-cosine", 2500, {**_UNET, "timesteps": 400}, images=300),
    "gsn": Row("GSN", "gsn", 7000, {"layers": (1000, 1000), "batch_size": 100}),
    "infusion": Row(
        "infusion training, by the bound",
        "infusion",
        1500,
        {"batch_size": 64, "width": 0.2, "objective": "elbo", "lr": 1e-3},
        images=300,
        particles=50,
    ),
    "variational-walkback": Row(
        "variational walkback",
        "variational-walkback",
        1000,
        {"batch_size": 64},
        images=300,
        particles=20,
    ),
}


def measure(name: str, *, steps: int | None, limit: int | None, seed: int) -> tuple[Any, Any]:
    """Train and judge one row; return its result, and the images that are shown.

    Args:
        name: Of the row.
        steps: Of the training; the row's own if None.
        limit: Test images, and samples; the row's own if None.
        seed: Of the training and of all draws.
    """
    row = ROWS[name]
    data = Data.named("mnist", binarise="none")
    started = time.process_time()
    run = RECIPES[row.recipe].fit(
        data, **row.options, steps=steps or row.steps, valid_every=0, seed=seed, progress=False
    )
    trained = time.process_time()
    samples = limit or SAMPLES
    report = [
        *evaluate(run, metrics=[*METRICS], limit=samples, n_samples=samples, pictures=False),
        *evaluate(
            run,
            metrics=["bits_per_dim"],
            particles=row.particles,
            limit=limit or row.images,
            pictures=False,
        ),
    ]
    judged = time.process_time()
    drawn = run.sample(TIMED, seed=seed)
    took = time.process_time() - judged
    found: dict[str, Any] = {
        "row": name,
        "seed": seed,
        "steps": run.history[-1]["step"],
        "parameters": sum(p.numel() for p in run.pair.parameters()),
        "train_cpu_seconds": trained - started,
        "judge_cpu_seconds": judged - trained,
        "sample_ms": 1000 * took / TIMED,
    }
    shown = drawn.get("x_mean", drawn["x"])[:SHOWN]
    return found | kept.circumstances() | kept.figures(report), shown


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| family | bits per dimension | Frechet | mmd | precision | recall | coverage "
        "| ms a sample | parameters | steps | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def measures(suffix: str, r: dict[str, Any]) -> list[str]:
        frechet, mmd, *shares = (r[f"{name}{suffix}"] for name in METRICS)
        if frechet["value"] is None:  # samples that are NaN or infinite, say
            return ["-"] * len(METRICS)
        return [
            kept.cell(frechet, ".1f"),
            kept.cell(mmd, ".1f", 1000),
            *(f"{share['value']:.2f}" for share in shares),
        ]

    for r in found:
        bits = r["bits_per_dim"]
        shown = "none"
        if bits["value"] is not None:
            form = ".3f" if bits["value"] < 100 else ".1e"
            shown = _KINDS[bits["kind"]] + kept.cell(bits, form)
        cells = [
            ROWS[r["row"]].title,
            shown,
            *measures("", r),
            f"{float(format(r['sample_ms'], '.2g')):g}",
            f"{r['parameters']:,}",
            f"{r['steps']:,}",
            f"{r['train_cpu_seconds'] / 60:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for suffix, title in (("_real", "*real images*"), ("_baseline", "*pixels by themselves*")):
        if found:
            lines.append(f"| {' | '.join([title, '', *measures(suffix, found[0])])} | | | | |")
    note = (
        f"Bits per dimension of greyscale test images, by the bound where there is one; {SAMPLES} "
        "samples against as many test images: Frechet distance between features of a classifier, "
        "biased upwards, mmd times 1000, unbiased; ± is the standard error. One seed."
    )
    return "\n".join([*lines, "", f"{note} {kept.place(found)}"])


_KINDS = {"exact": "", "unbiased": "", "upper bound": "at most "}


def strip(shown: Tensor) -> NDArray[np.uint8]:
    """Return images (n, 1, height, width) beside one another, as bytes, dark on white."""
    side = torch.cat([*shown[:, 0]], -1)
    grey: NDArray[np.uint8] = ((1 - side.clamp(0, 1)) * 255).byte().cpu().numpy()
    return grey


def picture() -> Figure:
    """Draw the kept samples of all rows, one row of images each."""
    files = {row.title: _strip_of(name) for name, row in ROWS.items() if _strip_of(name).exists()}
    figure = Figure(figsize=(9.5, 0.52 * len(files)))
    for i, (title, file) in enumerate(files.items()):
        axis = figure.add_subplot(len(files), 1, i + 1)
        axis.imshow(np.asarray(Image.open(file)), cmap="gray", vmin=0, vmax=255)
        axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    figure.subplots_adjust(hspace=0.05, left=0.25, right=0.99, top=0.99, bottom=0.01)
    return figure


def _strip_of(name: str) -> Path:
    return kept.FOLDER / TABLE / f"{name}.png"


def main() -> None:
    """Run the command line."""
    args = kept.arguments(__doc__, ROWS)
    torch.set_num_threads(1)
    for name in args.rows:
        found, shown = measure(name, steps=args.steps, limit=args.limit, seed=args.seed)
        if not (args.steps or args.limit):
            kept.keep(TABLE, found)
            Image.fromarray(strip(shown)).save(_strip_of(name))
            picture().savefig(PICTURE, dpi=110)
            pages.write(families=table())
        print(
            table([found]),
            f"\n{found['train_cpu_seconds'] / found['steps']:.4f} CPU s a step",
            flush=True,
        )


if __name__ == "__main__":
    main()
