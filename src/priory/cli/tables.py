"""The tables that the command line shows: of names, and of a comparison."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from priory.data.data import SETS
from priory.data.domains import DOMAINS
from priory.data.named import ImageSet
from priory.data.toys import DENSITIES
from priory.divergences import DIVERGENCES
from priory.evaluation import METRICS, Comparison, Metric
from priory.evaluation.metrics import ANCHORS, choose
from priory.evaluation.report.tables import align
from priory.models import PAIRS
from priory.nets import LIKELIHOODS, NETS
from priory.priors import PRIORS
from priory.recipes import RECIPES, Recipe
from priory.signatures import REQUIRED, options_of, summary
from priory.specs import OBJECTIVES, OPTIMS, SCHEDULES

TABLES: dict[str, Mapping[str, Any]] = {
    "recipes": RECIPES,
    "priors": PRIORS,
    "objectives": OBJECTIVES,
    "data": SETS,
    "domains": DOMAINS,
    "likelihoods": LIKELIHOODS,
    "nets": NETS,
    "divergences": DIVERGENCES,
    "schedules": SCHEDULES,
    "optimisers": OPTIMS,
    "pairs": PAIRS,
    "metrics": METRICS,
}


SHOWN = ("nll", "active_units", "knn_accuracy", "mmd")
"""What a comparison shows on a terminal; its page has every metric."""


def table_text(name: str) -> str:
    """Answer a table as text: each entry on a line, how it is written and what it is.

    Args:
        name: a name in `TABLES`.
    """
    rows = [_row(key, entry) for key, entry in TABLES[name].items()]
    return "\n".join([f"{name}:", *(f"  {line}" for line in align(rows))])


def _row(name: str, entry: Any) -> tuple[str, str]:
    if isinstance(entry, Recipe):
        parts = [entry.family.__name__, str(entry.options.get("prior", "normal")), entry.loss]
        return name, f"{entry.paper} ({', '.join(parts)}; {entry.data})"
    if isinstance(entry, ImageSet):
        binary = "binary for good" if entry.binarise == "none" else "grey, binarised dynamically"
        return name, f"images, {binary}"
    if name in DENSITIES:
        modes, sd = len(DENSITIES[name].centres), DENSITIES[name].sd
        return name, f"{modes} round modes in the plane, sd {sd:g}, of known density"
    if isinstance(entry, Metric):
        slow = " (slow)" if entry.slow else ""
        return name, f"{entry.group.ljust(10)}  {summary(entry.function)}{slow}"
    if name in SETS:
        return name, summary(entry).replace("Draw ", "points in the plane: ")
    told = "" if name in DOMAINS else _arguments(name, entry)  # a name alone is typed
    return f"{name}{told}", summary(entry)


def _arguments(name: str, entry: Any) -> str:
    """Answer what may follow a name, with its defaults."""
    options = options_of(entry)
    if name in DIVERGENCES:  # two sample sets come first; a generator cannot be typed
        options = {n: o for n, o in options.items() if n not in ("a", "b", "generator")}
    if name in OPTIMS:
        return ":key=value"
    told = [n if o.default is REQUIRED else f"{n}={_plain(o.default)}" for n, o in options.items()]
    return "".join(f":{part}" for part in told)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def publish(table: Comparison, metrics: Sequence[str] | None, out: Path) -> None:
    """Print a comparison as one table, and write its page and numbers.

    Args:
        table: the comparison.
        metrics: what to print; `SHOWN` if None.
        out: the folder of page and numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = [*(choose(metrics) if metrics else SHOWN)]
    kept += [f"{name}_{anchor}" for name in kept for anchor in ANCHORS]
    rows = [
        replace(row, cells={n: c for n, c in row.cells.items() if n in kept}) for row in table.rows
    ]
    told = [d for d in table.differences if d.metric in kept]
    first = [d for d in told if d.metric == told[0].metric]  # the nll's, unless it is not asked for
    text = str(replace(table, rows=tuple(rows), differences=tuple(first)))
    if sys.stdout.isatty():
        text = re.sub(r"(\S+(?: ± \S+)?)\*(?=\s)", "\033[1m\\1*\033[0m", text)
    print(text)
    table.to_json(out / "comparison.json")
    print(f"wrote {table.to_html(out / 'index.html')}, with every metric and the pictures")
