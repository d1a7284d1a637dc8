"""A report's numbers as Markdown, for the card of a run."""

from __future__ import annotations

from priory.evaluation.report.groups import grouped
from priory.evaluation.report.report import Report
from priory.evaluation.report.text import collect


def figures_text(report: Report) -> str:
    """Return a report's numbers as a table, with their errors, kinds and warnings.

    Args:
        report: The report.

    Example:
        >>> figures_text(report).splitlines()[2]
        '| figure | value ± standard error | unit | kind | K | steps | n |'
    """
    lines = [line for members in grouped(report).values() for line in members]
    rows = [line.record for line in lines if line.record.applicable]
    split = f"the {report.split} rows" if report.split else "rows"
    text = [
        f"Judged on {split} of {report.data} ({report.n:,} rows, seed {report.seed}).",
        "",
        "| figure | value ± standard error | unit | kind | K | steps | n |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        counts = ("" if v is None else f"{v:,}" for v in (r.particles, r.steps, r.n))
        text.append(f"| {' | '.join([r.name, r.text, r.unit, r.kind, *counts])} |")
    warned = collect((warning, r.title) for r in rows for warning in r.warnings)
    if warned:
        text += ["", "Warnings:", ""]
        text += [f"- {', '.join(titles)}: {warning}" for warning, titles in warned.items()]
    return "\n".join(text)
