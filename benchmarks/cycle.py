"""CycleGANs between MNIST and a transformed MNIST, judged by pairs that they never saw.

    PRIORY_DATA=folder python -m benchmarks.cycle edges

trains on the named domains (all by default) and keeps the figures of each as a JSON file under
`benchmarks/results/cycle`, with a picture of translations. Training rows have no counterpart in the
other domain; of the test rows it is known.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import hardware
from priory import __version__, evaluate, fit
from priory.data import Data
from priory.evaluation.interpolation import paired, translate
from priory.evaluation.record import format_value
from priory.evaluation.report.canvas import canvas, tile
from priory.inference import Adversarial, Reconstruction, Run, Sleep
from priory.lookup import named
from priory.models import CycleGAN
from priory.nets import Conv, ResNet

RESULTS = Path(__file__).parent / "results" / "cycle"
DOMAINS = {
    "edges": "outlines",
    "thick": "thick strokes",
    "inverted": "black and white exchanged",
    "turned": "turned by a quarter",
}
METRICS = ("pairing_accuracy", "pairing_accuracy_back", "cycle_error")
SHOWN = 12


def train(data: Data, options: argparse.Namespace) -> Run:
    """Train a CycleGAN on two domains of images."""
    weight = options.weight / data.train.x[0].numel()
    loss = weight * (Reconstruction(cost="absolute") + Sleep("b", cost="absolute"))
    for site in ("x", "b"):
        critic = Conv((8, 16), 64, "leaky-relu-0.2")
        loss = loss + Adversarial(critic, site, game="least-squares")
    return fit(
        CycleGAN(
            ResNet(options.channels, options.blocks), ResNet(options.channels, options.blocks)
        ),
        loss,
        data,
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        schedule="cosine",
        optim=partial(torch.optim.Adam, betas=(0.5, 0.999)),
        valid_every=0,
        seed=options.seed,
        progress=False,
    )


def judge(domain: str, options: argparse.Namespace) -> tuple[dict, list[Tensor]]:
    """Train on a domain; return its figures, and rows of images to show."""
    data = Data.named(f"mnist:{domain}")
    run = train(data, options)
    report = evaluate(run, metrics=METRICS, pictures=False)
    columns = {n: v[:: len(data.test) // 1000][:1000] for n, v in data.test.columns.items()}
    x, other = (columns[n].flatten(1).cpu() for n in ("x", "other"))
    made = {
        "domain": domain,
        **{name: [report[name].value, report[name].se] for name in METRICS},
        "among": report["pairing_accuracy"].n,
        "untranslated": [float(paired(x, other).mean()), float(paired(other, x).mean())],
        "train_rows": len(data.train),
        "train_seconds": run.seconds,
        **vars(options),
        "threads": torch.get_num_threads(),
        "hardware": hardware(data.device),
        "priory": __version__,
    }
    first = {name: value[:SHOWN] for name, value in data.test.columns.items()}
    with run.scope(), torch.no_grad():
        found = translate(run.pair.model, run.pair.guide, first)
    shape = first["x"].shape
    rows = [first["x"], found.there.reshape(shape), first["other"], found.back.reshape(shape)]
    return made, [row.cpu().clamp(0, 1) for row in rows]


def picture(rows: list[Tensor], title: str) -> object:
    """Draw data, their translations, the true counterparts, and the way back."""
    names = ("MNIST", "translated", f"{title} (the counterparts)", "translated back")
    figure = canvas(0.55 * SHOWN, 0.85 * len(rows))
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        axes = figure.add_subplot(len(rows), 1, i + 1)
        axes.imshow(tile(row, SHOWN).squeeze(-1), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_axis_off()
    return figure


def results() -> list[dict]:
    """Return the figures that were kept, in the table's order."""
    files = [RESULTS / f"{domain}.json" for domain in DOMAINS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| MNIST and | pairing accuracy there | back | without translation | chance | "
        "cycle error | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = results()
    for made in found:
        there, back, error = (format_value(*made[name]) for name in METRICS)
        plain = ", ".join(f"{share:.3f}" for share in made["untranslated"])
        cells = (DOMAINS[made["domain"]], there, back, plain, f"{1 / made['among']:.3f}", error)
        minutes = f"{made['train_seconds'] / 60:.1f} min"
        lines.append(f"| {' | '.join([*cells, minutes])} |")
    last = found[-1]
    places = "; ".join(dict.fromkeys(made["hardware"] for made in found))
    return "\n".join(
        [
            *lines,
            "",
            "Pairing accuracy: share of test images whose translation is nearest to their own "
            f"counterpart among {last['among']:,}, ± its binomial error; in training no image has "
            f"its counterpart among the {last['train_rows']:,} of either domain. "
            f"{last['steps']:,} steps of {last['batch_size']} images, one seed. A generator sees a "
            "neighbourhood of each pixel: that bias, not the objective, decides which of the maps "
            "between two sets is found, and a map that turns an image is not among them.",
            "",
            f"Measured on {places}.",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("domain", nargs="*", help=f"of {', '.join(DOMAINS)}; all by default")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight", type=float, default=1.0, help="of both round trips, per pixel")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    domains = [name for name in options.domain or DOMAINS if named("domain", name, DOMAINS)]
    dry, only = options.dry, options.table
    for name in ("domain", "dry", "table"):
        delattr(options, name)
    for domain in () if only else domains:
        made, rows = judge(domain, options)
        print(made, flush=True)
        if not dry:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{domain}.json").write_text(json.dumps(made, indent=1) + "\n")
            drawn = picture(rows, DOMAINS[domain])
            drawn.savefig(RESULTS / f"{domain}.png", dpi=110, bbox_inches="tight")
    if not dry:
        print(table())


if __name__ == "__main__":
    main()
