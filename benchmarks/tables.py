"""Likelihoods of counts and of mixed tables, on tables that Python and scikit-learn ship.

    python -m benchmarks.tables

counts the 60 most frequent words in the paragraphs of Python's own manual (`pydoc_data.topics`) and
trains a VAE by several likelihoods, all of which give a mass to every count, so that their nats are
those of one quantity. Then it removes 30% of the cells of mixed tables at random, numbers beside
names of categories, trains the recipe `miwae` with a likelihood for each column, and with the
categories' numbers taken for values, and compares what is filled in with what was there. One
setting for all.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from numpy.typing import NDArray
from sklearn import datasets

from benchmarks import pages
from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.distributions.counts import IndependentNegativeBinomial
from priory.evaluation import evaluate
from priory.inference import ELBO, fit
from priory.likelihoods import LIKELIHOODS, DiscretizedNormal
from priory.models import VAE
from priory.parsing import parse
from priory.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "tables.json"
WORDS, LEAST = 60, 20  # words that are counted, and that a paragraph has
LIKELIHOOD_TEXTS = (
    "poisson",
    "negative-binomial",
    "zero-inflated-negative-binomial",
)
NORMAL, APART = "discretised normal", "negative binomial, words apart"
PARTICLES = 200
SEEDS = 1
TABLES = ("iris", "wine", "diabetes", "breast_cancer")
GONE, MASKS = 0.3, 1
COUNTING: dict[str, Any] = {"steps": 2000, "lr": 3e-3, "patience": 8, "valid_every": 12}
FILLING: dict[str, Any] = {"steps": 2000, "lr": 1e-3, "patience": 15, "valid_every": 10}


def words() -> NDArray[np.float64]:
    """Return how often each frequent word is in each paragraph, (paragraphs, words)."""
    from pydoc_data.topics import topics

    found = [re.findall(r"[a-z]+", p.lower()) for t in topics.values() for p in t.split("\n\n")]
    found = [paragraph for paragraph in found if len(paragraph) >= LEAST]
    total = Counter(word for paragraph in found for word in paragraph)
    kept = [word for word, _ in total.most_common(WORDS)]
    counts = [Counter(paragraph) for paragraph in found]
    return np.array([[own[word] for word in kept] for own in counts], float)


def counted(x: NDArray[np.float64], text: str, seed: int) -> dict[str, Any]:
    """Return one line: nats of a test row under one likelihood.

    Args:
        x: counts.
        text: the likelihood.
        seed: of the training; the rows are divided alike for all.
    """
    top = float(x.max())
    of_levels = text == NORMAL
    data = Data.from_arrays(x / top if of_levels else x, valid=0.15, test=0.2)
    found: dict[str, Any] = {"likelihood": text, "seed": seed}
    if text == APART:
        train = data.train.x
        mean, spread = train.mean(0), train.var(0)
        dispersion = ((spread - mean) / mean.square()).clamp(min=1e-2)
        apart = IndependentNegativeBinomial(mean.log(), dispersion.log(), 1)
        nats = -apart.log_prob(data.test.x)
        return found | {"nll": float(nats.mean()), "se": float(nats.std() / len(nats) ** 0.5)}
    head = DiscretizedNormal(int(top) + 1) if of_levels else parse("likelihood", text, LIKELIHOODS)
    pair = VAE(likelihood=head, latent=8)
    run = fit(pair, ELBO(), data, **COUNTING, seed=seed, compile="off", progress=False)
    record = evaluate(run, metrics=["nll"], particles=PARTICLES, pictures=False)["nll"]
    if "x a mass" not in record.quantity:
        raise ValueError(f"{text} gives no mass, whose nats could be compared: {record.quantity}")
    return found | {"nll": record.value, "se": record.se, "seconds": run.seconds}


def mixed(name: str) -> pd.DataFrame:
    """Return a table of scikit-learn's with its category as text.

    Args:
        name: of a `load_` function.
    """
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    table = found.data.copy()
    if name == "diabetes":
        table["sex"] = np.where(table["sex"] > 0, "b", "a")
    else:
        names = {"iris": "species", "wine": "cultivar", "breast_cancer": "diagnosis"}
        table[names[name]] = np.asarray(found.target_names)[found.target]
    return table


def filled(name: str, mask: int) -> list[dict[str, Any]]:
    """Return the lines of one table under one mask.

    Args:
        name: of the table.
        mask: seed of the mask, and of the training.
    """
    truth = mixed(name)
    gone = np.random.default_rng(mask).random(truth.shape) < GONE
    text = np.array([not pd.api.types.is_numeric_dtype(kind) for kind in truth.dtypes])
    table = truth.mask(gone)
    numbers = truth.loc[:, ~text].to_numpy(float)
    there = table.loc[:, ~text].to_numpy(float)
    scale, hidden, lost = np.nanstd(there, 0), gone[:, ~text], gone[:, text]

    def line(way: str, made: Any, names: Any) -> dict[str, Any]:
        error = ((made - numbers) / scale)[hidden]
        wrong = (np.asarray(names) != truth.loc[:, text].to_numpy())[lost]
        found = {"rmse": float(np.sqrt(np.mean(error**2))), "wrong": float(wrong.mean())}
        return {"table": name, "mask": mask, "shape": truth.shape, "way": way, **found}

    common = table.loc[:, text].mode().iloc[0].to_numpy()
    lines = [line("means", np.nanmean(there, 0)[None], np.broadcast_to(common, lost.shape))]
    options = {"latent": 8, **FILLING, "seed": mask, "compile": "off", "progress": False}
    data = Data.from_arrays(table, missing="integrate", test=0, seed=mask)
    run = RECIPES["miwae"].fit(data, **options)
    rows = pd.DataFrame(run.impute(table, seed=mask).table())
    lines.append(line("columns", rows.loc[:, ~text].to_numpy(float), rows.loc[:, text]))
    lines[-1] |= {"seconds": run.seconds, "kinds": run.pair.likelihood.lines()}
    levels = [sorted(set(truth[column])) for column in truth.columns[text]]
    codes = table.copy()
    for column, own in zip(truth.columns[text], levels, strict=True):
        codes[column] = codes[column].map({level: k for k, level in enumerate(own)})
    array = codes.to_numpy(float)
    data = Data.from_arrays(array, missing="integrate", test=0, seed=mask)
    run = RECIPES["miwae"].fit(data, likelihood="normal", **options)
    x = run.impute(array, seed=mask).x.numpy()
    nearest = [
        [own[int(v)] for v in np.clip(np.round(column), 0, len(own) - 1)]
        for own, column in zip(levels, x[:, text].T, strict=True)
    ]
    lines.append(line("numbers", x[:, ~text], np.array(nearest).T))
    return lines


def counts_table(result: dict[str, Any]) -> str:
    """Return the results of counts as Markdown."""
    rows = result["counts"]
    lines = ["| likelihood | nats of a test row, by K = 200 |", "| --- | --- |"]
    for text in dict.fromkeys(row["likelihood"] for row in rows):
        own = [row for row in rows if row["likelihood"] == text]
        values = [row["nll"] for row in own]
        spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
        lines.append(f"| {text.replace('-', ' ')} | {np.mean(values):.2f}{spread} |")
    gap = max(row["se"] for row in rows)
    return "\n".join(
        [
            *lines,
            "",
            f"Lower is better; one seed, and the standard error over the test rows is {gap:.1f} at "
            f"most, alike in all rows. {result['rows']:,} paragraphs of Python "
            f"{result['python']}. Measured on {result['hardware']}.",
        ]
    )


def mixed_table(result: dict[str, Any]) -> str:
    """Return the results of mixed tables as Markdown."""
    rows = result["mixed"]
    lines = [
        "| table | error of numbers: means | as numbers | by columns "
        "| wrong categories: the most frequent | as numbers | by columns |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["table"] for row in rows):
        own = [row for row in rows if row["table"] == name]
        cells = []
        for key, form in (("rmse", ".3f"), ("wrong", ".0%")):
            for way in ("means", "numbers", "columns"):
                values = [row[key] for row in own if row["way"] == way]
                cells.append(", ".join(f"{v:{form}}" for v in values))
        n, d = own[0]["shape"]
        lines.append(f"| {name.replace('_', ' ')}, {n} x {d} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Root mean square error in the columns' deviations, and share of wrong names, under "
            f"{MASKS} mask. Measured on {result['hardware']}, scikit-learn {result['sklearn']}.",
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", nargs="?", choices=("counts", "mixed", "pages"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    result |= {
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
        "python": platform.python_version(),
        "sklearn": sklearn.__version__,
    }
    if args.part in (None, "counts"):
        x = words()
        ways = [(text, seed) for text in (*LIKELIHOOD_TEXTS, NORMAL) for seed in range(SEEDS)]
        result["rows"], result["counts"] = len(x), []
        for text, seed in [(APART, 0), *ways]:
            result["counts"].append(counted(x, text, seed))
            print(json.dumps(result["counts"][-1]), flush=True)
    if args.part in (None, "mixed"):
        result["mixed"] = []
        for name in TABLES:
            for mask in range(MASKS):
                result["mixed"] += filled(name, mask)
                print(json.dumps(result["mixed"][-3:]), flush=True)
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    made = {"counts": counts_table, "mixed": mixed_table}
    pages.write(**{name: table(result) for name, table in made.items() if name in result})


if __name__ == "__main__":
    main()
