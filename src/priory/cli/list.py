"""The verb that shows what there is, by name."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.data import DOMAINS, ImageSet, Toy
from priory.data.sets import DataSet
from priory.divergences import DIVERGENCES
from priory.inference.objectives import COSTS
from priory.inference.objectives.games import Game
from priory.lookup import named
from priory.parsing import OPTIMS
from priory.recipes import Recipe
from priory.signatures import REQUIRED, options_of, summary

TABLES = {
    "recipes": "priory.recipes:RECIPES",
    "priors": "priory.priors:PRIORS",
    "objectives": "priory.inference.objectives:OBJECTIVES",
    "gradients": "priory.inference.objectives:GRADIENTS",
    "data": "priory.data:SETS",
    "domains": "priory.data:DOMAINS",
    "likelihoods": "priory.likelihoods:LIKELIHOODS",
    "posteriors": "priory.posteriors:POSTERIORS",
    "nets": "priory.nets:NETS",
    "autoregressive": "priory.nets:AUTOREGRESSIVE",
    "flows": "priory.nets:FLOWS",
    "timed": "priory.nets:TIMED",
    "critics": "priory.nets:CRITICS",
    "divergences": "priory.divergences:DIVERGENCES",
    "games": "priory.inference.objectives:GAMES",
    "costs": "priory.inference.objectives:COSTS",
    "loggers": "priory.inference.loggers:LOGGERS",
    "schedules": "priory.inference.objectives:SCHEDULES",
    "optimisers": "priory.parsing:OPTIMS",
    "pairs": "priory.models:PAIRS",
    "metrics": "priory.evaluation.table:METRICS",
}
"""Where each table is; it is imported when it is shown."""


def command(_: Request) -> Command:
    """Return what may be typed."""
    return Command(
        "priory list [TABLE ...]",
        f"{VERBS['list']}.",
        {},
        act,
        ("TABLE ...", f"{', '.join(TABLES)}; all by default"),
        ("priory list priors objectives",),
    )


def act(request: Request) -> None:
    """Print the tables that are named, or all of them."""
    for name in request.arguments:
        request.errors.attempt(named, "table", name, TABLES)
    request.errors.check()
    print("\n\n".join(table_text(name) for name in request.arguments or TABLES))


def table_text(name: str) -> str:
    """Return a table as text: each entry on a line, how it is written and what it is.

    Args:
        name: a name in `TABLES`.
    """
    from priory.evaluation.report.text import align

    rows = [_row(key, entry) for key, entry in resolve_name(TABLES[name]).items()]
    return "\n".join([f"{name}:", *(f"  {line}" for line in align(rows))])


def _row(name: str, entry: Any) -> tuple[str, str]:
    from priory.evaluation import Metric

    if isinstance(entry, Recipe):
        parts = [entry.family.__name__, str(entry.options.get("prior", "normal")), entry.loss]
        return name, f"{entry.paper} ({', '.join(parts)}; {entry.data})"
    if isinstance(entry, ImageSet):
        binary = "binary" if entry.binarise == "none" else "greyscale, binarised dynamically"
        return name, f"images, {binary}"
    if isinstance(entry, Toy) and entry.density is not None:
        modes, sd = len(entry.density.centres), entry.density.sd
        return name, f"{modes} round modes in the plane, sd {sd:g}, of known density"
    if isinstance(entry, Toy):
        return name, summary(entry.draw).replace("Draw ", "points in the plane: ")
    if isinstance(entry, DataSet):
        return name, summary(entry)
    if isinstance(entry, Game):
        return name, entry.paper
    if isinstance(entry, Metric):
        slow = " (slow)" if entry.slow else ""
        return name, f"{entry.group.ljust(10)}  {summary(entry.function)}{slow}"
    alone = entry in (*DOMAINS.values(), *COSTS.values())
    return name if alone else name + _arguments(name, entry), summary(entry)


def _arguments(name: str, entry: Any) -> str:
    """Return what may follow a name, with its defaults."""
    options = options_of(entry)
    if name in DIVERGENCES:  # two sample sets come first; a generator cannot be typed
        options = {n: o for n, o in options.items() if n not in ("a", "b", "generator")}
    if name in OPTIMS:
        return ":key=value"
    return "".join(
        f":{n}" if o.default is REQUIRED else f":{n}={_plain(o.default)}"
        for n, o in options.items()
    )


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
