"""Writes the benchmarks' tables into the pages, and the picture of samples from saved runs.

python -m benchmarks.readme makes the tables from the committed result files; with the option
--runs runs/papers it draws the picture too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import (
    autoencoders,
    autoregressive,
    bidirectional,
    bottleneck,
    chains,
    classical,
    clusters,
    codes,
    conditional,
    cycle,
    discrete,
    divergences,
    energies,
    families,
    few_labels,
    footprint,
    games,
    interpolation,
    layers,
    likelihoods,
    missing,
    modes,
    outliers,
    pages,
    papers,
    products,
    step,
    sticks,
    toys,
    trees,
    zoo,
)
from priory import load

PICTURE = Path(__file__).parent / "results" / "samples.png"
COLUMNS = 16
_IN_FILES = (
    *(
        autoregressive,
        bidirectional,
        chains,
        clusters,
        codes,
        cycle,
        discrete,
        energies,
        families,
    ),
    *(few_labels, games, layers, modes, sticks, toys, trees),
)


def main() -> None:
    """Write the tables, and draw the picture if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the saved runs")
    folder = parser.parse_args().runs
    if folder is not None:
        generated(folder).savefig(PICTURE, dpi=110, bbox_inches="tight")
    pages.write(**tables())


def tables() -> dict[str, str]:
    """Return the tables of the result files, by their marks."""
    found = {"papers": papers.table(), "step": steps()}
    for made in _IN_FILES:
        found[_mark(made)] = made.table()
    alone = (classical, likelihoods, interpolation, outliers, autoencoders, conditional, bottleneck)
    for made in (*alone, divergences, footprint, missing, products, zoo):
        if made.FILE.exists():
            found[_mark(made)] = made.table(json.loads(made.FILE.read_text()))
    return found


def _mark(made: Any) -> str:
    return str(made.__name__.rpartition(".")[2].replace("_", "-"))


def generated(folder: Path) -> Figure:
    """Draw samples of every saved run: a row of means of p(x | z) each, z from the prior."""
    names = [n for n in papers.ROWS if (folder / f"{n}-seed0").is_dir()]
    figure = Figure(figsize=(COLUMNS * 0.55, len(names) * 0.8))
    for i, name in enumerate(names):
        images = load(folder / f"{name}-seed0").sample(COLUMNS)["x_mean"]
        for j, image in enumerate(images):
            axis = figure.add_subplot(len(names), COLUMNS, i * COLUMNS + j + 1)
            axis.imshow(image[0].cpu(), cmap="gray_r", vmin=0, vmax=1)
            axis.set_axis_off()
            if j == 0:
                row = papers.ROWS[name]
                axis.set_title(f"{row.title}, {row.data}", loc="left", fontsize=9)
    figure.subplots_adjust(wspace=0.05, hspace=0.35)
    return figure


def steps(file: Path = step.RESULT) -> str:
    """Return the table of step times as Markdown.

    Args:
        file: what `benchmarks.step` wrote.
    """
    if not file.exists():
        return ""
    result = json.loads(file.read_text())
    cases = list(result["cases"].values())
    names = dict.fromkeys(r["contender"] for case in cases for r in case["rows"])
    first = {r["contender"]: f"{r['first_seconds']:.1f}" for r in cases[0]["rows"]}
    lines = [
        f"| ms per step (ratio to {result['peer']}) "
        + "".join(f"| {case['title']} " for case in cases)
        + "| seconds to first step |",
        "| --- " * (len(cases) + 2) + "|",
    ]
    for name in names:
        times = [{r["contender"]: r for r in case["rows"]}.get(name) for case in cases]
        lines.append(f"| {name} | {' | '.join(map(cell, times))} | {first.get(name, '-')} |")
    floors = " | ".join(cell(case["floor"]) for case in cases)
    peers = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join(
        [
            *lines,
            f"| *matrix products alone* | {floors} | |",
            "",
            f"Medians of {result['rounds']} interleaved rounds on {result['hardware']}"
            f"{peers and ', ' + peers}; {result['threads']}; load "
            f"{result['load']:.1f} before. Losses agree within {step.TOLERANCE:.0%}. "
            f"{absent(cases, names)}",
        ]
    ).rstrip()


def cell(time: dict[str, Any] | None) -> str:
    """Return a contender's time in a case, and its ratio."""
    return "-" if time is None else f"{time['milliseconds']:.2f} ({time['ratio']:.2f})"


def absent(cases: list[dict[str, Any]], names: dict[str, Any]) -> str:
    """Return in a sentence each why contenders of the table have no time in a case."""
    reasons = {
        reason: None
        for case in cases
        for name, reason in (case["left_out"] | case["failed"]).items()
        if name in names
    }
    return " ".join(f"{reason}." for reason in reasons)


if __name__ == "__main__":
    main()
