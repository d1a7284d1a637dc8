"""Autoencoders whose codes follow the prior, on greyscale MNIST: one network, nine methods.

    PRIORY_DATA=folder OMP_NUM_THREADS=1 python -m benchmarks.autoencoders

Every method has the same encoder and decoder, the same batches, steps and optimiser. A method is a
line of text: what is paid for reconstructions, and how the codes are matched with the prior. Each
method's row is kept in `--kept` as soon as it is there, so that a run that was broken off goes on
with what is missing; with all rows the table's file and the picture are written.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.evaluation import evaluate, evaluate_samples
from priory.evaluation.report.canvas import INK, SOFT, canvas, tile
from priory.evaluation.rows import rows_of
from priory.inference import Run, fit
from priory.models import GLO, VAE
from priory.nets import MLP
from priory.parsing import parse_objective

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "autoencoders.json"
PICTURE = RESULTS / "autoencoders.png"
SHOWN = 8  # test images, and twice as many samples
SQUARED = "reconstruction:cost=squared"
CRITIC = "critic=(mlp:200,200)"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        title: its name in the table.
        loss: what is minimised, as text.
        point: whether the encoder's output is the code, and the decoder's the image.
    """

    title: str
    loss: str
    point: bool = True


METHODS = {
    "vae": Method("VAE", "elbo", point=False),
    "autoencoder": Method("autoencoder", SQUARED),
    "wae-mmd": Method("WAE-MMD", f"{SQUARED} + 100*match:mmd:z"),
    "wae-gan": Method("WAE-GAN", f"{SQUARED} + 10*adversarial:z:{CRITIC}:r1=0.1"),
    "sinkhorn-ae": Method(
        "Sinkhorn autoencoder", f"{SQUARED} + 30*match:(sinkhorn:eps=4:steps=10):z"
    ),
    "sliced-wae": Method("sliced WAE", f"{SQUARED} + 100*match:sliced:z"),
    "aae": Method("AAE", f"reconstruction + 100*adversarial:z:{CRITIC}:r1=0.1", point=False),
    "info-vae": Method("InfoVAE", "elbo:beta=0.5 + 100*match:mmd:z", point=False),
    "glo": Method("GLO", f"reconstruction:cost=laplacian + {SQUARED}"),
}
CODES = {"reconstruction": "error", "latent_mmd": "codes' mmd", "latent_sliced": "sliced"}
SAMPLES = {
    "mmd": "samples' mmd",
    "frechet": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "c2st": "separated",
}
DIGITS = {"frechet": 1, "precision": 2, "recall": 2, "coverage": 2, "c2st": 2}
SCALED = {"mmd": 1000, "latent_mmd": 1000, "reconstruction": 1000, "latent_sliced": 1000}


def pair_of(name: str, options: argparse.Namespace) -> VAE | GLO:
    """Build a method's pair: the nets are the same for all, GLO has no encoder."""
    hidden = tuple(options.hidden)
    decoder = MLP(hidden, output="sigmoid")
    if name == "glo":
        return GLO(decoder, latent=options.latent)
    point = METHODS[name].point
    likelihood = "delta" if point else "normal"
    return VAE("normal", MLP(hidden), decoder, likelihood, options.latent, deterministic=point)


def train(name: str, data: Data, options: argparse.Namespace) -> Run:
    """Train a method."""
    return fit(
        pair_of(name, options),
        parse_objective(METHODS[name].loss),
        data,
        epochs=options.epochs,
        batch_size=options.batch,
        lr=options.lr,
        schedule="cosine",
        optim=partial(torch.optim.Adam, betas=(0.5, 0.999)),
        valid_every=0,
        progress=False,
        seed=options.seed,
    )


def measure(name: str, data: Data, options: argparse.Namespace) -> tuple[dict[str, Any], Tensor]:
    """Train and judge a method, and return its row and its images."""
    started = time.perf_counter()
    run = train(name, data, options)
    trained = time.perf_counter() - started
    wanted = {"seed": options.seed, "pictures": False, "n_samples": options.samples}
    report = evaluate(run, metrics=list(CODES), limit=options.images, **wanted)
    # The means of p(x | z): noise on the pixels is in no method's favour.
    generated = run.sample(options.samples, seed=options.seed)["x_mean"]
    judged = evaluate_samples(
        generated, data, metrics=list(SAMPLES), limit=options.images, **wanted
    )
    row = {
        "method": name,
        "train_seconds": trained,
        "seconds": time.perf_counter() - started,
        "loss": run.history[-1]["loss"],
        "values": {m: _value(report[m]) for m in CODES} | {m: _value(judged[m]) for m in SAMPLES},
        "anchors": {
            anchor: {m: _value(judged[f"{m}_{anchor}"]) for m in SAMPLES}
            for anchor in ("real", "baseline")
        },
        "prior": report["latent_sliced"].note.partition("itself: ")[2].partition(";")[0],
        "features": judged["frechet"].note,
    }
    shown = torch.cat([_reconstructed(run, data.test.x[:SHOWN]), generated[: 2 * SHOWN]])
    return row, shown.cpu()


@torch.no_grad()
def _reconstructed(run: Run, x: Tensor) -> Tensor:
    pair = run.pair.eval()
    glo = isinstance(pair, GLO)
    mean: Tensor = (
        pair.generator(pair.find(x)) if glo else pair.decoder(pair.encoder(x).mean)
    ).mean
    return mean


def _value(record: Any) -> list[float | None]:
    return [record.value, record.se]


def principal(data: Data, k: int) -> float:
    """Return the squared error per feature of test images by k principal components."""
    x, test = (rows_of(part.x).double() for part in (data.train, data.test))
    mean = x.mean(0)
    axes = torch.linalg.eigh((x - mean).T.cov()).eigenvectors[:, -k:]
    rest = (test - mean) - (test - mean) @ axes @ axes.T
    return float(rest.square().mean())


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    titles = [*CODES.values(), *SAMPLES.values()]
    lines = [f"| method | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for row in result["rows"]:
        cells = [_cell(m, row["values"][m]) for m in (*CODES, *SAMPLES)]
        lines.append(f"| {' | '.join([METHODS[row['method']].title, *cells])} |")
    first = result["rows"][0]
    names = {"real": "*real images*", "baseline": "*pixels by themselves*"}
    for anchor, title in names.items():
        values = [first["anchors"][anchor][m] for m in SAMPLES]
        cells = [_cell(m, v) for m, v in zip(SAMPLES, values, strict=True)]
        lines.append(f"| {' | '.join([title, '', '', '', *cells])} |")
    error = SCALED["reconstruction"] * result["principal"]
    lines.append(f"| *principal components* | {error:.1f} |{' |' * (len(titles) - 1)}")
    seconds = [row["train_seconds"] for row in result["rows"]]
    hidden = "-".join(map(str, result["hidden"]))
    return "\n".join(
        [
            *lines,
            "",
            f"Greyscale MNIST, {result['latent']} latents, encoder and decoder of {hidden}, "
            f"{result['epochs']} epochs of Adam in batches of {result['batch']}; seed "
            f"{result['seed']}; ± is the standard error over images. Error: squared, per pixel, of "
            "test images. Codes of test images against the prior: the unbiased squared "
            "discrepancy, and sliced transport, by which the prior differs from itself by "
            f"{float(first['prior']) * 1000:.1f}. These three, and the mmd of samples, are times "
            f"1000. Samples (means of p(x | z)) against {result['samples']} test images; "
            "Frechet, precision, recall and coverage in the features of a classifier of our own, "
            "so that no number compares with a published one; separated: accuracy of a logistic "
            "regression, 0.5 is best. VAE, InfoVAE and AAE have normal pixels of one learned "
            "scale, so that likelihood sets the weight of the error; the others pay the squared "
            "error itself, and the weights of their matches were chosen on short runs. GLO has no "
            "encoder: codes of test images are searched for, and its prior is fitted to the codes. "
            f"Training took {min(seconds):.0f} to {max(seconds):.0f} s.",
            "",
            f"Measured on {result['hardware']}.",
        ]
    )


def _cell(metric: str, value: list[float | None]) -> str:
    mean, se = value
    if mean is None:
        return "-"
    scale, digits = SCALED.get(metric, 1), DIGITS.get(metric, 1)
    shown = f"{mean * scale:.{digits}f}"
    return shown if se is None else f"{shown} ± {se * scale:.{digits}f}"


def picture(images: dict[str, Tensor], test: Tensor) -> Figure:
    """Draw each method's reconstructions of the same test images, and its samples."""
    figure = canvas(11.5, 0.62 * (len(images) + 1) + 0.8)
    figure.suptitle(
        "The same eight test images reconstructed, and sixteen samples, not picked",
        x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK,
    )  # fmt: skip
    rows = {"test images": test, **{METHODS[name].title: x for name, x in images.items()}}
    for i, (title, shown) in enumerate(rows.items()):
        axes = figure.add_subplot(len(rows), 1, i + 1)
        gap = torch.zeros_like(shown[:1])  # white, once the ink is turned
        strip = torch.cat([shown[:SHOWN], gap, shown[SHOWN:]]).clamp(0, 1)
        axes.imshow(tile(1 - strip, len(strip))[..., 0], cmap="gray")
        axes.set_axis_off()
        axes.annotate(
            title, (0, 0.5), xytext=(-6, 0), xycoords="axes fraction",
            textcoords="offset points", ha="right", va="center", fontsize=10, color=SOFT,
        )  # fmt: skip
    return figure


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="*", default=[400, 400])
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--samples", type=int, default=5000, help="samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--kept", type=Path, default=Path("runs/autoencoders"))
    parser.add_argument("--write", action="store_true", help="write the table's file and picture")
    args = parser.parse_args()
    settings = {
        n: v for n, v in vars(args).items() if n not in ("methods", "kept", "write", "images")
    }
    data = Data.named(args.data, binarise="none")
    rows, images = [], {}
    for name in args.methods:
        asked = {**settings, "images": args.images, "loss": METHODS[name].loss}
        file = args.kept / f"{name}.pt"
        kept = torch.load(file) if file.exists() else {}
        if kept.get("asked") != asked:
            row, shown = measure(name, data, args)
            kept = {"asked": asked, "row": row, "images": shown}
            args.kept.mkdir(parents=True, exist_ok=True)
            torch.save(kept, file)
        rows.append(kept["row"])
        images[name] = kept["images"]
        print(name, json.dumps(kept["row"]["values"]), round(kept["row"]["train_seconds"], 1))
    result = {
        "rows": rows,
        **settings,
        "principal": principal(data, args.latent),
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }
    test = torch.cat([data.test.x[:SHOWN], data.test.x[SHOWN : 3 * SHOWN]])
    figure = picture(images, test)
    if args.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(result, indent=1) + "\n")
        figure.savefig(PICTURE, dpi=110, bbox_inches="tight")
    else:
        figure.savefig(args.kept / "autoencoders.png", dpi=110, bbox_inches="tight")
    print(table(result))


if __name__ == "__main__":
    main()
