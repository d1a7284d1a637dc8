"""Aligned tables of text."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 110


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
            told = [row for row in rows if any(cell.strip() for cell in row[1:])]
            table = align(told, right=range(1, len(part)))
            lines += [table[0], "-" * max(map(len, table)), *table[1:], ""]
            part = [labels]
        if column is not None:
            part.append(column)
    return lines


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2
