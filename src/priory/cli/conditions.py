"""What samples are drawn under: values that are given, as the command line writes them."""

from __future__ import annotations

import re
from typing import Any

from priory.inference import Run
from priory.signatures import Option, number

GIVEN = Option(
    "given", str, None, "values that are held, y=3; of several, y=0,1,2 or y=all, n samples of each"
)
_ALL = "all"


def read_given(text: str) -> dict[str, list[Any]]:
    """Return the values that are given, by site.

    Args:
        text: `y=3`, `y=0,1,2`, `y=all`, or those of several sites with commas between.

    Raises:
        ValueError: if it is not of that form.

    Example:
        >>> read_given("y=1,2,u=0.5")
        {'y': [1, 2], 'u': [0.5]}
    """
    found: dict[str, list[Any]] = {}
    site = ""
    for part in filter(None, text.split(",")):
        name, sign, value = (piece.strip() for piece in part.rpartition("="))
        site = name if sign else site
        if not re.fullmatch(r"\w+", site) or not value or (sign and site in found):
            raise ValueError(f"given must be site=value, for instance y=3; got {text!r}")
        plain = number(value, int)
        plain = number(value, float) if plain is None else plain
        found.setdefault(site, []).append(value if plain is None else plain)
    return found


def spread(given: dict[str, list[Any]], run: Run) -> tuple[dict[str, list[Any]], int]:
    """Return the values given, as many of each site, and how many.

    Args:
        given: as `read_given` returns them; "all" stands for every class of the run's data, and
            for every value of a code.
        run: whose samples they are for.

    Raises:
        ValueError: if one site has two values and another three.
    """
    values = {s: run.every_value(s) if v == [_ALL] else v for s, v in given.items()}
    several = {len(v) for v in values.values()} - {1}
    if len(several) > 1:
        counts = ", ".join(f"{len(v)} of {s}" for s, v in values.items())
        raise ValueError(f"given must have as many values of one site as of another, got {counts}")
    most = max(several, default=1)
    return {s: v * most if len(v) == 1 else v for s, v in values.items()}, most


def repeated(values: list[Any], n: int) -> list[Any]:
    """Return each value n times."""
    return [value for value in values for _ in range(n)]
