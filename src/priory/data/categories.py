"""Columns of text in tables: categories, whose levels have numbers here and names outside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Levels = tuple[tuple[str, ...], ...]
"""Of each feature the names of its levels 0, 1, ...; none of a feature of numbers."""

MOST = 256  # levels of a column
_FEW = 20  # levels that any table may have
_DATE = re.compile(
    r"\d{4}[-/]\d{1,2}([T ].*)?|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)
_TRUTHS = {"true": 1.0, "false": 0.0}


def refuse_dates(name: str, cells: Sequence[Any]) -> None:
    """Raise a ValueError if a column holds dates or times.

    Args:
        name: of the column.
        cells: those that are not missing.
    """
    if cells and all(_is_date(cell) for cell in cells):
        raise ValueError(
            f"column {name!r} holds dates or times, such as {str(cells[0])!r}, which are neither "
            "numbers nor categories: write numbers, such as days since the first one, or parts of "
            "them, such as the month's name, or leave the column out"
        )


def _is_date(cell: Any) -> bool:
    if isinstance(cell, str):
        return _DATE.fullmatch(cell.strip()) is not None
    return isinstance(cell, np.datetime64 | np.timedelta64) or hasattr(cell, "isoformat")


def coded(
    name: str, cells: Sequence[str], seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Give the levels of a column of text numbers from 0 in sorted order, and their names.

    A column of true and false alone becomes ones and zeros, without levels.

    Args:
        name: of the column.
        cells: its text, (rows,).
        seen: which of them are there; others become NaN.

    Raises:
        ValueError: if the levels are too many to be those of a category.
    """
    texts = np.array([str(cell).strip() for cell in cells])
    numbers = np.full(len(texts), np.nan)
    if {text.lower() for text in texts[seen]} <= _TRUTHS.keys():
        numbers[seen] = [_TRUTHS[text.lower()] for text in texts[seen]]
        return numbers, ()
    levels, found = np.unique(texts[seen], return_inverse=True)
    if len(levels) > MOST or (len(levels) > _FEW and 2 * len(levels) > int(seen.sum())):
        raise ValueError(
            f"column {name!r} has {len(levels):,} different texts in {int(seen.sum()):,} rows, too "
            f"many for a category (at most {MOST}, of two rows each): names or free text; leave "
            "the column out"
        )
    numbers[seen] = found
    return numbers, tuple(map(str, levels))


def check_categories(levels: Levels, names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise a ValueError if columns of categories would be shifted, scaled or binarised.

    Args:
        levels: of each feature.
        names: of the features.
        options: those of the data.
    """
    names = names or [f"x_{i}" for i in range(len(levels))]
    given = [name for name, own in zip(names, levels, strict=bool(levels)) if own]
    binary = options["binarise"] not in ("auto", "none")
    if given and (options["standardise"] or binary):
        what = f"binarise={options['binarise']!r}" if binary else "standardise=True"
        raise ValueError(
            f"{what} is for numbers, and column {given[0]!r} holds categories: leave it out; each "
            "column's likelihood has units of its own"
        )


def pooled(every: Sequence[Levels]) -> Levels:
    """Return the levels that any of several tables of the same features has, sorted."""
    return tuple(tuple(sorted({*own[0]}.union(*own[1:]))) for own in zip(*every, strict=True))


def recoded(
    x: NDArray[Any], own: Levels, wanted: Levels, names: Sequence[str], *, called: bool
) -> NDArray[Any]:
    """Return rows with the numbers that other levels have.

    Args:
        x: rows, (n, features); NaN stays.
        own: their levels.
        wanted: the levels whose numbers they get.
        names: of the features.
        called: whether a number in the place of a level is its name, as in a table; else it is the
            number of a level.

    Raises:
        ValueError: if a level is not wanted, or text stands where the others have numbers.
    """
    found = x.astype(np.float64)
    for i, (name, mine, theirs) in enumerate(zip(names, own, wanted, strict=True)):
        if mine == theirs or (theirs and not mine and not called):
            continue
        if not theirs:
            raise ValueError(
                f"column {name!r} holds text, such as {mine[0]!r}, and that of the training rows "
                "numbers"
            )
        seen = ~np.isnan(found[:, i])
        texts = [mine[int(v)] if mine else f"{v:.15g}" for v in found[seen, i]]
        table = {level: number for number, level in enumerate(theirs)}
        if strange := sorted({*texts} - {*table}):
            known = ", ".join(theirs if len(theirs) <= 12 else (*theirs[:10], "..."))
            raise ValueError(
                f"column {name!r} has {', '.join(map(repr, strange[:5]))}, and the training rows "
                f"the levels {known}; leave such rows out, or train on some of each"
            )
        found[seen, i] = [table[text] for text in texts]
    return found


def named_columns(x: NDArray[Any], levels: Levels, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return rows as columns by name, categories as the names of their levels.

    Args:
        x: rows, (n, features), in the data's own units; NaN becomes None in a category.
        levels: of each feature; empty where all are numbers.
        names: of the features; x_0, x_1, ... where there are none.
    """
    flat = x.reshape(len(x), -1)
    names = tuple(names) or tuple(f"x_{i}" for i in range(flat.shape[1]))
    levels = levels or ((),) * len(names)
    found: dict[str, list[Any]] = {}
    for name, own, column in zip(names, levels, flat.T, strict=True):
        values = column.tolist()
        found[name] = [None if v != v else own[int(v)] for v in values] if own else values
    return found
