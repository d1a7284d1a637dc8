"""What texts of reports and comparisons are made of: aligned tables, intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

WIDTH = 110
_Key = TypeVar("_Key")
_Z = 1.959963984540054  # the standard normal's 97.5% quantile


def align(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return rows of text as lines with aligned columns.

    Args:
        rows: cells, the same number in each row.
        right: columns whose text stands to the right.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def stack_tables(labels: list[str], columns: list[list[str]]) -> list[str]:
    """Return the lines of as many tables beneath each other as the columns' widths call for.

    A row that is empty in a table is left out of it.

    Args:
        labels: the first column, repeated in each table.
        columns: the others, each with its heading first.
    """
    lines: list[str] = []
    part = [labels]
    for column in [*columns, None]:
        wide = column is None or _width([*part, column]) > WIDTH
        if wide and len(part) > 1:
            rows = list(zip(*part, strict=True))
            filled = [row for row in rows if any(cell.strip() for cell in row[1:])]
            table = align(filled, right=range(1, len(part)))
            lines += [table[0], "-" * max(map(len, table)), *table[1:], ""]
            part = [labels]
        if column is not None:
            part.append(column)
    return lines


def interval(value: float | None, se: float | None) -> tuple[float, float] | None:
    """Return the 95% interval, value ± 1.96 se, if there is a standard error that is not 0.

    Args:
        value: the number.
        se: its standard error.
    """
    return None if value is None or not se else (value - _Z * se, value + _Z * se)


def interval_text(low: float, high: float) -> str:
    """Write an interval, to two digits of its standard error.

    Args:
        low: its lower end.
        high: its upper end.

    Example:
        >>> interval_text(86.127, 86.567), interval_text(-0.00021, 0.00034)
        ('86.13 to 86.57', '-0.00021 to 0.00034')
    """
    se = (high - low) / (2 * _Z)
    if not 0.0 < se < math.inf:
        return f"{low:.4g} to {high:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    if decimals > 6 or max(abs(low), abs(high)) >= 1e7:
        return f"{low:.1e} to {high:.1e}"
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def collect(pairs: Iterable[tuple[_Key, str]]) -> dict[_Key, list[str]]:
    """Return the texts of each key, all in the order in which they come.

    Args:
        pairs: keys with a text.

    Example:
        >>> collect([("no labels", "probe"), ("slow", "ais"), ("no labels", "knn accuracy")])
        {'no labels': ['probe', 'knn accuracy'], 'slow': ['ais']}
    """
    found: dict[_Key, list[str]] = {}
    for key, text in pairs:
        found.setdefault(key, []).append(text)
    return found


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2
