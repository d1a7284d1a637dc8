"""Results of rows that train for minutes: a file for each row and seed, as soon as it is judged."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import hardware, load
from priory import __version__
from priory.evaluation import Report

FOLDER = Path(__file__).parent / "results"


def circumstances() -> dict[str, Any]:
    """Return what a row's times belong to: threads, load, hardware, version."""
    return {
        "threads": torch.get_num_threads(),
        "load": load(),
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }


def figures(report: Report) -> dict[str, Any]:
    """Return a report's records, by their names."""
    names = ("value", "se", "kind", "note")
    return {r.name: {name: getattr(r, name) for name in names} for r in report}


def cell(figure: dict[str, Any], form: str, times: float = 1.0) -> str:
    """Return a figure and its standard error as a table shows them.

    Args:
        figure: One of `figures`.
        form: Of both numbers, such as ".1f".
        times: What both are multiplied by.
    """
    return f"{times * figure['value']:{form}} ± {times * figure['se']:{form}}"


def arguments(description: str, rows: Iterable[str]) -> argparse.Namespace:
    """Return the rows that a command line names, the length of a trial, and the seed.

    Args:
        description: Of the script, whose first line is shown.
        rows: That there are; all of them if none is named.
    """
    names = [*rows]
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("rows", nargs="*", default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--steps", type=int, help="a trial of so many steps")
    parser.add_argument("--limit", type=int, help="a trial on so many test images")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def keep(table: str, found: dict[str, Any]) -> None:
    """Write the result of a row and seed.

    Args:
        table: Whose row it is.
        found: The result, with its `row` and `seed`.
    """
    folder = FOLDER / table
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{found['row']}-seed{found['seed']}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")


def results(table: str, rows: Iterable[str]) -> list[dict[str, Any]]:
    """Return a table's results, in the order of the rows and of their seeds.

    Args:
        table: Whose.
        rows: Their names.
    """
    found = [json.loads(p.read_text()) for p in (FOLDER / table).glob("*-seed*.json")]
    order = [*rows]
    return sorted(found, key=lambda r: (order.index(r["row"]), r["seed"]))


def place(found: Iterable[dict[str, Any]]) -> str:
    """Return the line below a table that says where its results come from."""
    places = sorted({r["hardware"] for r in found})
    return f"Measured on {'; '.join(places)}." if places else "Not measured yet."
