"""Conditional models of MNIST: whether samples under a label are of that label.

    PRIORY_DATA=folder python -m benchmarks.conditional

Each row trains one model and judges it by draws; rows may be run one by one (--rows cvae), in any
order: the results of the others stay. A classifier that is trained on the training rows predicts
the label of a sample; its accuracy on test rows is the measure of what can be expected.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.machine import hardware
from priory import __version__, evaluate, fit, load
from priory.data import Data
from priory.evaluation.report.canvas import tile
from priory.inference import Run
from priory.models import CVAE, ConditionalGAN
from priory.nets import NETS
from priory.parsing import parse_objective
from priory.parsing.texts import parse

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "conditional.json"
PICTURE = RESULTS / "conditional.png"
METRICS = ("label_agreement", "class_kl", "frechet", "precision", "recall")
COLUMNS = 8


@dataclass(frozen=True)
class Row:
    """A model and its training, as text; a class of pairs for each kind of options.

    Args:
        title: in the table.
        objective: what it is trained by.
        options: of the pair.
        steps: of training.
        lr: learning rate at the start.
        binarise: of the pixels.
    """

    title: str
    objective: str
    options: dict[str, Any]
    steps: int
    lr: float
    binarise: str = "none"
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: str = "constant"
    ema: float | None = None


_MLP = {"generator": "mlp:256,512:batch_norm=true:output=sigmoid", "latent": 16}
ROWS = {
    "cvae": Row(
        "CVAE",
        "elbo",
        {"encoder": "mlp:400,400", "decoder": "mlp:400,400", "latent": 6},
        9000,
        2e-3,
        "dynamic",
        (0.9, 0.999),
        "cosine",
    ),
    "cgan": Row(
        "conditional GAN, label as the critic's input",
        "adversarial:x,y:critic=(joint:(mlp:512:leaky-relu-0.2):(mlp:256:leaky-relu-0.2):64):r1=0.2",
        _MLP,
        6000,
        2e-3,
        schedule="cosine",
    ),
    "projection": Row(
        "conditional GAN, projection critic",
        "adversarial:x,y:critic=(projection:(mlp:512,256:leaky-relu-0.2):64):r1=0.2",
        _MLP,
        6000,
        2e-3,
        schedule="cosine",
    ),
    "dcgan": Row(
        "conditional GAN, convolutional, projection critic",
        "adversarial:x,y:critic=(projection:(dcgan-critic:32,64):64)",
        {"generator": "dcgan:32,64", "latent": 16},
        1500,
        5e-4,
        schedule="cosine",
    ),
}


def train(row: Row, args: argparse.Namespace) -> Run:
    """Train a row's model."""
    options = dict(row.options)
    for name in ("encoder", "decoder", "generator"):
        if name in options:
            options[name] = parse("net", options[name], NETS)
    pair = ConditionalGAN(**options) if "generator" in options else CVAE(**options)
    return fit(
        pair,
        parse_objective(row.objective),
        Data.named("mnist", binarise=row.binarise),  # type: ignore[arg-type]
        steps=max(1, round(row.steps * args.share)),
        lr=row.lr,
        schedule=row.schedule,  # type: ignore[arg-type]
        optim=functools.partial(torch.optim.Adam, betas=row.betas),
        ema=row.ema,
        valid_every=0,
        seed=args.seed,
        progress=False,
    )


def judge(run: Run, args: argparse.Namespace) -> dict[str, list[float | None]]:
    """Return value and standard error of each metric, and of the anchors."""
    report = evaluate(run, metrics=METRICS, n_samples=args.samples, pictures=False, seed=args.seed)
    found = {r.name: [r.value, r.se] for r in report if r.applicable}
    if isinstance(run.pair, CVAE):
        bound = evaluate(
            run,
            metrics=["conditional_nll"],
            particles=args.particles,
            limit=args.rows_of_nll,
            pictures=False,
            seed=args.seed,
        )["conditional_nll"]
        found[bound.name] = [bound.value, bound.se]
    return found


def contest(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge a row, keep the run if asked to, and return what was found."""
    row = ROWS[name]
    run = train(row, args)
    began = time.perf_counter()
    found = judge(run, args)
    if args.runs is not None:
        run.save(args.runs / name, overwrite=True)
    return {
        **asdict(row),
        "steps": run.history[-1]["step"],
        "found": found,
        "train_seconds": run.seconds,
        "judge_seconds": time.perf_counter() - began,
        "seed": args.seed,
        "samples": args.samples,
        "particles": args.particles,
        "rows_of_nll": args.rows_of_nll,
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }


def cell(pair: list[float | None] | None, digits: int = 3) -> str:
    """Return a value with its standard error."""
    if pair is None or pair[0] is None:
        return "-"
    return f"{pair[0]:.{digits}f}" + ("" if pair[1] is None else f" ± {pair[1]:.{digits}f}")


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| model | pixels | agreement with the label | the classifier on test rows | KL of classes "
        "| Frechet distance (real data) | recall | -log p(x \\| y), nats | steps, minutes |",
        "| --- " * 9 + "|",
    ]
    rows = [result["rows"][n] for n in ROWS if n in result["rows"]]
    for row in rows:
        found = row["found"]
        pixels = "greyscale" if row["binarise"] == "none" else "binary"
        near = f"{cell(found.get('frechet'), 2)} ({cell(found.get('frechet_real'), 2)})"
        nll = found.get("conditional_nll")
        cells = [
            row["title"],
            pixels,
            cell(found.get("label_agreement")),
            cell(found.get("label_agreement_real")),
            cell(found.get("class_kl")),
            near,
            cell(found.get("recall")),
            "-" if nll is None else f"{cell(nll, 1)} (at most)",
            f"{row['steps']}, {row['train_seconds'] / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    one = rows[0]
    return "\n".join(
        [
            *lines,
            "",
            f"Value ± standard error over {one['samples']} samples, as many under each label; one "
            f"training run each, seed {one['seed']}. The classifier is trained on the training "
            "rows, greyscale or binary as the model's own. Features are the classifier's, so that "
            "distances compare among the rows with the same pixels. The bound has "
            f"K = {one['particles']} on {one['rows_of_nll']} test rows.",
            "",
            f"Measured on {one['hardware']}.",
        ]
    )


def picture(folder: Path, names: list[str]) -> Figure:
    """Draw samples of each saved run: a line of images under each label."""
    figure = Figure(figsize=(3.4 * len(names), 4.6))
    for i, name in enumerate(names):
        run = load(folder / name)
        labels = torch.arange(10).repeat_interleave(COLUMNS)
        drawn = run.sample(len(labels), given={"y": labels})
        axis = figure.add_subplot(1, len(names), i + 1)
        shown = drawn.get("x_mean", drawn["x"]).clamp(0, 1).cpu()
        axis.imshow(tile(shown, COLUMNS)[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
        axis.set_title(ROWS[name].title.replace(", ", "\n", 1), loc="left", fontsize=9)
    figure.subplots_adjust(wspace=0.08, left=0.01, right=0.99, bottom=0.01)
    return figure


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="*", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--share", type=float, default=1.0, help="of each row's steps")
    parser.add_argument("--samples", type=int, default=5000, help="samples that are judged")
    parser.add_argument("--particles", type=int, default=200, help="of the bound")
    parser.add_argument("--rows-of-nll", type=int, default=1000, help="test rows of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in, for the picture")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--picture", action="store_true", help="only draw the runs that are kept")
    args = parser.parse_args()
    if args.picture:
        if args.runs is None:
            parser.error("--picture needs --runs, the folder where the runs are kept")
        names = [n for n in ROWS if (args.runs / n).is_dir()]
        figure = picture(args.runs, names)
        figure.savefig(PICTURE, dpi=130, bbox_inches="tight")
        return
    result = json.loads(args.file.read_text()) if args.file.exists() else {"rows": {}}
    for name in () if args.table else args.rows:
        result["rows"][name] = contest(name, args)
        args.file.parent.mkdir(parents=True, exist_ok=True)
        args.file.write_text(json.dumps(result, indent=1) + "\n")
        print(name, result["rows"][name], flush=True)
    print(table(result))


if __name__ == "__main__":
    main()
