"""What a bidirectional GAN's encoder learns of MNIST: nearest neighbours in its features.

    PRIORY_DATA=folder python -m benchmarks.bidirectional bigan

trains the named rows (all by default), judges each by its nearest neighbour's label, keeps the
figures as one JSON file each under `benchmarks/results/bidirectional`, and prints the table. All
encoders have one net and one start; "untrained" is that start. `--hidden 1024 --epochs 400` is the
budget of the paper.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import hardware
from priory import __version__, fit
from priory.data import Data
from priory.evaluation.record import format_value
from priory.inference import Adversarial, Objective, Reconstruction
from priory.lookup import named
from priory.models import VAE
from priory.nets import MLP

RESULTS = Path(__file__).parent / "results" / "bidirectional"
ROWS = {
    "pixels": "pixels",
    "untrained": "encoder, untrained",
    "bigan": "BiGAN",
    "autoencoder": "autoencoder, squared error",
}
PUBLISHED = {
    "untrained": ("96.84 (code)", "91.50 (code)"),
    "bigan": ("97.39; 97.35 (code)", "95.92, 92.10 (code, epochs 200, 400)"),
    "autoencoder": ("97.58", ""),
}
_BLOCK = 500


def pair_of(options: argparse.Namespace) -> VAE:
    """Make the pair: permutation-invariant nets, as in the paper, and a uniform latent."""
    hidden = (options.hidden, options.hidden)
    return VAE(
        "uniform",
        MLP(hidden, "leaky-relu-0.2", batch_norm=True),
        MLP(hidden, "relu", batch_norm=True, output="sigmoid"),
        "delta",
        options.latent,
        deterministic=True,
    )


def objective_of(row: str, options: argparse.Namespace) -> Objective:
    """Make what a row is trained by."""
    if row == "autoencoder":
        return Reconstruction(cost="squared")
    critic = MLP((options.hidden, options.hidden), "leaky-relu-0.2", dropout=options.dropout)
    return Adversarial(critic, ("x", "z"), rate=options.rate, noise=options.noise)


def train(row: str, data: Data, options: argparse.Namespace) -> tuple[VAE, float]:
    """Train a row, and return its pair and the seconds; "untrained" takes no step."""
    pair = pair_of(options)
    if row == "untrained":
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            pair.build(data.train.x)
        return pair.eval(), 0.0
    run = fit(
        pair,
        objective_of(row, options),
        data,
        epochs=options.epochs,
        lr=options.lr,
        schedule="cosine",
        optim=partial(torch.optim.Adam, betas=(0.5, 0.999)),
        valid_every=0,
        seed=options.seed,
        progress=False,
        on_epoch=lambda r: print(row, r["epoch"], f"{r['loss']:.3f}", r["seconds"], flush=True),
    )
    return run.pair.eval(), run.seconds


@torch.no_grad()
def codes(pair: VAE | None, x: Tensor) -> dict[str, Tensor]:
    """Return the encoder's hidden layer and its output, or the pixels if there is no pair."""
    if pair is None:
        return {"features": x.flatten(1)}
    x = x.to(next(pair.parameters()).device)
    return {
        "features": torch.cat([pair.encoder.features(part) for part in x.split(_BLOCK)]),
        "code": torch.cat([pair.encoder(part).mean for part in x.split(_BLOCK)]),
    }


def nearest_hits(test: Tensor, train: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Return of each test row whether its nearest training row has its label, `(n,)`."""
    squares = train.square().sum(1)
    found = [(squares - 2 * rows @ train.T).argmin(1) for rows in test.split(_BLOCK)]
    return (known[torch.cat(found).to(known.device)] == labels).double()


def judge(row: str, data: Data, options: argparse.Namespace) -> dict:
    """Train a row and return its figures."""
    pair, seconds = (None, 0.0) if row == "pixels" else train(row, data, options)
    started = time.perf_counter()
    test, known = codes(pair, data.test.x[: options.images]), codes(pair, data.train.x)
    labels, pool = data.test.columns["y"][: options.images], data.train.columns["y"]
    result: dict = {"row": row, "train_seconds": seconds, **vars(options)}
    for name, rows in test.items():
        hits = nearest_hits(rows, known[name], labels, pool)
        share = float(hits.mean())
        result[name] = [100 * share, 100 * (share * (1 - share) / len(hits)) ** 0.5]
    return result | {
        "judge_seconds": time.perf_counter() - started,
        "threads": torch.get_num_threads(),
        "hardware": hardware(data.train.x.device),
        "priory": __version__,
    }


def results() -> list[dict]:
    """Return the figures that were kept, in the table's order."""
    files = [RESULTS / f"{row}.json" for row in ROWS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| nearest neighbour, % | hidden layer | published | E(x) | published | training |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = results()
    for made in found:
        cells = [format_value(*made[n]) if n in made else "" for n in ("features", "code")]
        first, second = PUBLISHED.get(made["row"], ("", ""))
        minutes = f"{made['epochs']} epochs, {made['train_seconds'] / 60:.1f} min"
        trained = minutes if made["train_seconds"] else ""
        line = (ROWS[made["row"]], cells[0], first, cells[1], second, trained)
        lines.append(f"| {' | '.join(line)} |")
    last = found[-1]
    places = "; ".join(dict.fromkeys(made["hardware"] for made in found))
    return "\n".join(
        [
            *lines,
            "",
            f"Label of the nearest of {len_of_pool(last):,} training images, on {last['images']:,} "
            f"test images, ± its binomial error; one seed. Two hidden layers of {last['hidden']} "
            f"with batch norm, {last['latent']} uniform latents; the paper has 1,024 and trains "
            "for 400 epochs (Donahue et al., 2017; (code): what its code prints).",
            "",
            f"Measured on {places}.",
        ]
    )


def len_of_pool(made: dict) -> int:
    """Return how many training images there were."""
    return int(made["rows"] or 59_600)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("row", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--latent", type=int, default=50)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--dropout", type=float, default=0.0, help="of the critic")
    parser.add_argument("--noise", type=float, default=0.3, help="sd, on what the critic sees")
    parser.add_argument("--rate", type=float, default=0.5, help="of the critic over the pair's")
    parser.add_argument("--rows", type=int, default=None, help="training images, all by default")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    rows = [row for row in options.row or ROWS if named("row", row, ROWS)]
    dry, only = options.dry, options.table
    for name in ("row", "dry", "table"):
        delattr(options, name)
    if not only:
        data = Data.named("mnist", binarise="none", rows=options.rows)
        if torch.cuda.is_available():
            data = data.to("cuda")
        for row in rows:
            made = judge(row, data, options)
            print(made, flush=True)
            if not dry:
                RESULTS.mkdir(parents=True, exist_ok=True)
                (RESULTS / f"{row}.json").write_text(json.dumps(made, indent=1) + "\n")
    if not dry:
        print(table())


if __name__ == "__main__":
    main()
