"""A search's page: its trials, how it went on, which options mattered, and the best run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from priory.evaluation.report.canvas import (
    DATA,
    HEADING,
    INK,
    SOFT,
    canvas,
    legend,
    new_axes,
    plain,
)
from priory.evaluation.report.page import (
    Document,
    page,
    picture_cards,
    records_table,
    section,
)
from priory.evaluation.report.report import Report
from priory.evaluation.report.text import align

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 12  # labels on an axis


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        number: Its number, from 0.
        state: What became of it.
        value: What it is judged by, on validation rows; `None` of one that failed.
        options: What it tried, by name.
        steps: Training steps of its first seed.
        seconds: Of all its trainings.
        reason: Why it failed.
    """

    number: int
    state: Literal["finished", "pruned", "failed"]
    value: float | None
    options: Mapping[str, Any]
    steps: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Tuned(Document):
    """What a search found.

    Args:
        name: Of the recipe.
        quantity: What trials are judged by.
        better: Its direction.
        spaces: What was searched, by name, as text.
        trials: In the order of their numbers.
        log: Names of the options that were searched in equal ratios.
        importance: The share of each option in the differences between finished trials; empty if
            there are too few.
        report: Of the best trial's run, on the test rows.
        judged: How often a search in this folder has looked at the test rows.
        seeds: Trainings of each trial.
    """

    name: str
    quantity: str
    better: Literal["higher", "lower"]
    spaces: Mapping[str, str]
    trials: tuple[Trial, ...]
    log: tuple[str, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    report: Report | None = None
    judged: int = 0
    seeds: int = 1

    @property
    def best(self) -> Trial:
        """The finished trial of the best value; of several the first.

        Raises:
            ValueError: No trial is finished.
        """
        done = [t for t in self.trials if t.state == "finished" and t.value is not None]
        if not done:
            raise ValueError(f"no trial is finished, of {len(self.trials)}")
        sign = 1 if self.better == "higher" else -1
        return max(done, key=lambda t: (sign * float(t.value or 0.0), -t.number))

    @property
    def title(self) -> str:
        """The recipe and the number of trials, on one line."""
        return f"{self.name}: {len(self.trials)} trials"

    @property
    def subtitle(self) -> str:
        """How many trials ended in which way, on one line."""
        counts = [(s, sum(t.state == s for t in self.trials)) for s in ("finished", "pruned")]
        counts.append(("failed", sum(t.state == "failed" for t in self.trials)))
        told = ", ".join(f"{n} {state}" for state, n in counts if n)
        seeds = f", mean of {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{told}; judged by the {self.quantity}, {self.better} is better{seeds}"

    @property
    def legend(self) -> str:
        """What the numbers are, and are not."""
        text = (
            f"* the best; the {self.quantity} is of validation rows, by which it was chosen, and "
            "too good by that"
        )
        if self.report is not None:
            times = "once" if self.judged == 1 else f"{self.judged} times in this folder"
            text += (
                "; the report of the best trial is of test rows, which the search has looked at "
                f"{times}"
            )
        return text

    def __str__(self) -> str:
        rows = [_cells(self, t) for t in self.trials]
        head = ["trial", self.quantity, *self.spaces, "steps", "seconds", ""]
        lines = align([head, *rows], (0, 1, *range(len(head) - 3, len(head) - 1)))
        legend = textwrap.fill(self.legend, 100, subsequent_indent="  ")
        return "\n".join([self.title, self.subtitle, "", *lines, "", legend])

    def figures(self) -> dict[str, Figure]:
        """Draw the search, as matplotlib figures by title: its course, importance, each option."""
        done = [t for t in self.trials if t.value is not None and t.state != "failed"]
        if not done:
            return {}
        found = {"The search": _course(self, done)}
        if self.importance:
            found["Importance"] = _importance(self.importance)
        for name in self.spaces:
            found[name] = _panel(self, done, name)
        return found

    def html(self) -> str:
        """Return the search as one page that needs no other file."""
        figures = self.figures()
        head = ["trial", self.quantity, *self.spaces, "steps", "seconds", "what became of it"]
        rows = (_row(head, _cells(self, t)) for t in self.trials)
        body = section("search", picture_cards(figures))
        body += section("trials", records_table(head, rows), self.legend)
        if self.report is not None:
            told = f"<pre>{escape(str(self.report))}</pre>"
            body += section("the best trial on test rows", told, f"trial {self.best.number}")
        return page(self.title, self.subtitle, body, "tuning", self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the search as plain values, without its pictures."""
        facts = ("name", "quantity", "better", "judged", "seeds")
        return {
            **{name: getattr(self, name) for name in facts},
            "spaces": dict(self.spaces),
            "importance": dict(self.importance),
            "trials": [{**asdict(t), "options": dict(t.options)} for t in self.trials],
            "report": None if self.report is None else self.report.as_dict(),
        }


def _cells(table: Tuned, trial: Trial) -> list[str]:
    """Return a trial's cells as text."""
    best = any(t.state == "finished" for t in table.trials) and trial is table.best
    value = "" if trial.value is None else f"{trial.value:.4f}{'*' if best else ''}"
    tried = [_short(trial.options.get(name, "")) for name in table.spaces]
    state = f"failed: {trial.reason}" if trial.state == "failed" else trial.state
    return [str(trial.number), value, *tried, f"{trial.steps:,}", f"{trial.seconds:.1f}", state]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(head: Sequence[str], cells: Sequence[str]) -> str:
    first, *rest = cells
    told = "".join(
        f'<td data-title="{escape(name)}">{escape(cell)}</td>'
        for name, cell in zip(head[1:], rest, strict=True)
    )
    return f'<tr><th scope="row">{escape(first)}</th>{told}</tr>'


def _course(table: Tuned, done: Sequence[Trial]) -> Figure:
    """Draw each trial's value, and the best of the finished ones so far."""
    figure, axes = new_axes("The search", "trial", table.quantity, note="the line: the best so far")
    _scatter(axes, [float(t.number) for t in done], done)
    whole = [t for t in done if t.state == "finished"]
    pick = max if table.better == "higher" else min
    values = [float(t.value or 0.0) for t in whole]
    so_far = [pick(values[: n + 1]) for n in range(len(values))]
    axes.step([t.number for t in whole], so_far, where="post", color=INK, linewidth=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend(axes, outside=True)
    return figure


def _importance(importance: Mapping[str, float]) -> Figure:
    """Draw the share of each option in the differences between finished trials."""
    figure = canvas(5.0, 1.0 + 0.4 * len(importance))
    axes = figure.add_subplot()
    named = sorted(importance.items(), key=lambda pair: pair[1])
    axes.barh([name for name, _ in named], [share for _, share in named], color=SOFT)
    axes.set_title("Importance", pad=8, **HEADING)
    axes.set_xlabel("share of the variance between finished trials", color=SOFT)
    plain(axes)
    return figure


def _panel(table: Tuned, done: Sequence[Trial], name: str) -> Figure:
    """Draw the value over one option."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = new_axes(name, name, table.quantity)
    tried = [t.options.get(name) for t in done]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in tried):
        if name in table.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        _scatter(axes, [float(v) for v in tried if v is not None], done)
    else:
        labels = sorted({str(v) for v in tried}, key=_order)
        _scatter(axes, [float(labels.index(str(v))) for v in tried], done)
        axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > _MANY else 0)
    return figure


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


def _scatter(axes: Any, x: Sequence[float], done: Sequence[Trial]) -> None:
    for state, colour, mark in (("finished", INK, "o"), ("pruned", DATA, "x")):
        chosen = [(a, t.value) for a, t in zip(x, done, strict=True) if t.state == state]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), c=colour, marker=mark, s=22, label=state)
