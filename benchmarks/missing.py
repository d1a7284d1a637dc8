"""Missing entries filled in by the recipe `miwae`, beside scikit-learn, on its bundled tables.

    python -m benchmarks.missing

removes 30% of a table's entries at random, trains on what is left, and compares what was filled in
with what was there: root mean square error in the columns' deviations, and the share of the true
entries between the 5% and the 95% quantile of their draws. One setting for all tables and masks.
The chained regressions see standardised columns.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

from benchmarks import pages
from benchmarks.machine import hardware
from priory import __version__
from priory.data import Data
from priory.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "missing.json"
TABLES = ("iris", "wine", "diabetes", "breast_cancer")
GONE, MASKS = 0.3, 3
OPTIONS: dict[str, Any] = {"latent": 8, "likelihood": "normal"}
TRAINING: dict[str, Any] = {"steps": 3000, "lr": 1e-3, "patience": 15, "valid_every": 5}

Floats = NDArray[np.float64]


def measure(name: str, seed: int) -> dict[str, Any]:
    """Return one line: errors and cover of one table under one mask.

    Args:
        name: of scikit-learn's `load_` functions.
        seed: of the mask, and of the training.
    """
    truth: Floats = getattr(datasets, f"load_{name}")().data.astype(float)
    gone = np.random.default_rng(seed).random(truth.shape) < GONE
    table = np.where(gone, np.nan, truth)
    mean, scale = np.nanmean(table, 0), np.nanstd(table, 0)

    def error(filled: Floats) -> float:
        return float(np.sqrt(np.mean(((filled - truth) / scale)[gone] ** 2)))

    chains = IterativeImputer(max_iter=100, tol=0.02, random_state=seed)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        chained = chains.fit_transform((table - mean) / scale) * scale + mean
    data = Data.from_arrays(table, standardise=True, missing="integrate", test=0, seed=seed)
    run = RECIPES["miwae"].fit(data, **OPTIONS, **TRAINING, seed=seed, progress=False)
    filled = run.impute(table, seed=seed)
    low, high = filled.low.numpy(), filled.high.numpy()
    return {
        "table": name,
        "mask": seed,
        "shape": truth.shape,
        "means": error(np.broadcast_to(mean, truth.shape)),
        "chained": error(chained),
        "miwae": error(filled.x.numpy()),
        "cover": float(((low <= truth) & (truth <= high))[gone].mean()),
        "seconds": run.seconds,
    }


def table(result: dict[str, Any]) -> str:
    """Return results as Markdown."""
    lines = [
        "| table | columns' means | chained regressions | MIWAE | true entries in 90% intervals |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["table"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["table"] == name]
        cells = [_spread([row[key] for row in rows]) for key in ("means", "chained", "miwae")]
        n, d = rows[0]["shape"]
        cover = ", ".join(f"{row['cover']:.0%}" for row in rows)
        title = name.replace("_", " ")
        lines.append(f"| {title}, {n} x {d} | {' | '.join(cells)} | {cover} |")
    masks = len({row["mask"] for row in result["rows"]})
    return "\n".join(
        [
            *lines,
            "",
            f"Root mean square error in the columns' deviations, mean and range of {masks} masks. "
            f"Measured on {result['hardware']}, scikit-learn {result['sklearn']}.",
        ]
    )


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--masks", type=int, default=MASKS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
        "sklearn": sklearn.__version__,
        "rows": [],
    }
    for name in args.tables:
        for seed in range(args.masks):
            result["rows"].append(measure(name, seed))
            print(json.dumps(result["rows"][-1]), flush=True)
    if (tuple(args.tables), args.masks) == (TABLES, MASKS):
        FILE.write_text(json.dumps(result, indent=1) + "\n")
        pages.write(missing=table(result))
        print(table(result))


if __name__ == "__main__":
    main()
