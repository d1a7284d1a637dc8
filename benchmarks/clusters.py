"""Clusters of MNIST's digits by three models, scored by three protocols side by side.

    PRIORY_DATA=folder python -m benchmarks.clusters vade --seed 0

trains and judges a row and writes the table into docs/results.md. A result is one JSON file for
each row and seed, under `benchmarks/results/clusters`. A trial with other settings (`--epochs 2`,
`--set latent=16`) prints its result and writes nothing.

Each cluster is given a class one to one (Hungarian), by the majority of its rows, or by its surest
row. By the latter two a model may have more clusters than there are classes, and scores better for
it; K stands beside each figure. All settings were chosen by the validation rows of seed 0, the last
10,000 training rows. The log likelihood is by the bound with K = 100, on 1,000 test rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import kept, pages
from priory import evaluate
from priory.data import Data
from priory.inference import Run
from priory.recipes import RECIPES

TABLE = "clusters"
VALID, IMAGES, PARTICLES = 10_000, 1000, 100
SCORES = ("clustering_hungarian", "clustering_majority", "clustering_confident")


@dataclass(frozen=True)
class Row:
    """One line of the table: what is trained, how, and what was published.

    Args:
        title: What the table calls it.
        recipe: Its name in the zoo.
        components: K, the number of clusters.
        published: The paper's accuracy, its protocol, and whose it is.
        options: Of the pair and of `fit`.
    """

    title: str
    recipe: str
    components: int
    published: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def clusters(self) -> dict[str, str]:
        """The option that sets the number of clusters."""
        if self.recipe == "vade":
            return {"prior": f"mixture:{self.components}"}
        return {"components": str(self.components)}


# With 32 latents and a price that rose from 0.01, all rows ended in one cluster.
_PLAIN = {
    "encoder": "mlp:256,256",
    "classifier": "mlp:256,256",
    "decoder": "mlp:256,256",
    "latent": "10",
    "objective": "elbo:gradient=enumerate",
    "batch_size": "100",
    "epochs": "32",
    "lr": "1e-3",
    "schedule": "cosine",
}
_UPPER = {
    "encoder": "mlp:500,500",
    "upper_encoder": "mlp:200,200",
    "upper": "mlp:200:tanh",
    "decoder": "mlp:500,500",
    "latents": "32,8",
    "objective": "elbo:beta=(linear:0.01:1:1500)",
    "batch_size": "250",
    "epochs": "50",
    "lr": "2e-3",
    "schedule": "cosine",
}
_VADE = {
    "encoder": "mlp:500,500",
    "decoder": "mlp:500,500",
    "latent": "10",
    "batch_size": "250",
    "autoencoder.epochs": "25",
    "autoencoder.lr": "2e-3",
    "autoencoder.schedule": "cosine",
    "objective": "elbo:beta=(linear:0.02:1:8000)",
    "epochs": "50",
    "lr": "1e-3",
    "schedule": "cosine",
}
_SHU, _FIVE, _JIANG = "Shu, by majority", "Dilokthanakul et al., surest row", "Jiang et al."
ROWS = {
    "gmvae": Row("GMVAE", "gmvae", 10, f"0.828, mean of 7 ({_SHU})", _PLAIN),
    "gmvae-16": Row("GMVAE", "gmvae", 16, f"0.908, one run ({_SHU})", {**_PLAIN, "epochs": "20"}),
    "wzy": Row("GMVAE (w, z, y)", "gmvae-wzy", 10, f"0.745 ± 0.102 ({_FIVE})", _UPPER),
    "wzy-16": Row("GMVAE (w, z, y)", "gmvae-wzy", 16, f"0.848 ± 0.031 ({_FIVE})", _UPPER),
    "vade": Row("VaDE", "vade", 10, f"0.945, best, one to one ({_JIANG})", _VADE),
    "vade-20": Row("VaDE", "vade", 20, "-", _VADE),
}


def train(row: Row, seed: int, changes: dict[str, Any]) -> Run:
    """Train a row on MNIST, binarised anew for each batch.

    Args:
        row: What is trained.
        seed: Of the training.
        changes: Options in place of the row's own.
    """
    return RECIPES[row.recipe].fit(
        Data.named("mnist", valid=VALID),
        **{**row.clusters, **row.options, **changes},
        compile="trace",
        valid_every=0,
        seed=seed,
        progress=False,
    )


def judge(run: Run) -> dict[str, Any]:
    """Return the scores of the test rows, the bound, and what the history has of the start."""
    report = [
        *evaluate(run, metrics=[*SCORES], pictures=False),
        *evaluate(run, metrics=["nll"], particles=PARTICLES, limit=IMAGES, pictures=False),
    ]
    found: dict[str, Any] = {r.name: {"value": r.value, "se": r.se} for r in report}
    ends = [row for row in run.history if SCORES[0] in row]
    for when, row in zip(("start", "end"), ends, strict=False):
        found[when] = {name: row[name] for name in SCORES}
    return found


def measure(name: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Train and judge a row; times are of the processor."""
    worked = time.process_time()
    run = train(ROWS[name], seed, changes)
    trained = time.process_time()
    scores = judge(run)
    return {
        "row": name,
        "seed": seed,
        **scores,
        "steps": run.history[-1]["step"],
        "train_seconds": trained - worked,
        "judge_seconds": time.process_time() - trained,
        "options": {**ROWS[name].clusters, **ROWS[name].options, **changes},
        **kept.circumstances(),
    }


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows and their seeds."""
    return kept.results(TABLE, ROWS)


def spread(values: list[float], digits: int = 3) -> str:
    """Return a median with its range."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table() -> str:
    """Return the table of all results as Markdown."""
    found = results()
    lines = [
        "| model | K | one to one | by majority | by the surest row | -log p(x) | published | "
        "seeds | CPU minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        runs = [r for r in found if r["row"] == name]
        head = f"| {row.title} | {row.components} |"
        if not runs:
            lines.append(f"{head} not run | - | - | - | {row.published} | 0 | - |")
            continue
        scores = " | ".join(spread([r[m]["value"] for r in runs]) for m in SCORES)
        nll = spread([r["nll"]["value"] for r in runs], 1)
        minutes = statistics.median(r["train_seconds"] for r in runs) / 60
        lines.append(f"{head} {scores} | {nll} | {row.published} | {len(runs)} | {minutes:.1f} |")
        for when in ("start", "end"):
            if all(when in r for r in runs):
                scores = " | ".join(spread([r[when][m] for r in runs]) for m in SCORES)
                lines.append(
                    f"| {row.title}, {when}, validation rows | {row.components} | {scores} "
                    f"| - | - | {len(runs)} | - |"
                )
    note = (
        "Medians over seeds, with the range, of accuracies on the 10,000 test rows; one standard "
        "error of each is 0.003 to 0.005. The start of VaDE is the mixture of the autoencoder's "
        "codes, and its scores are of the 10,000 validation rows, as are those of the end in the "
        "line below it. -log p(x) is an upper bound on the mean, with 100 draws, in nats, of 1,000 "
        "test rows. CPU minutes are of the training, on one thread."
    )
    return "\n".join([*lines, "", f"{note} {kept.place(found)}"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--epochs", help="a trial of so many, in place of each row's own")
    parser.add_argument("--set", nargs="*", default=[], help="a trial's options, name=text")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    torch.set_num_threads(1)
    changes = dict(pair.split("=", 1) for pair in args.set)
    if args.epochs:
        changes["epochs"] = args.epochs
    for name in args.rows or ROWS:
        found = measure(name, args.seed, changes)
        print(json.dumps(found, indent=1), flush=True)
        if not changes:
            kept.keep(TABLE, found)
            pages.write(clusters=table())


if __name__ == "__main__":
    main()
