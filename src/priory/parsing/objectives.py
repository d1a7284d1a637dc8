"""Objectives written as text, `reconstruction + 10*match:mmd`: parts, weights and their sum."""

from __future__ import annotations

import functools
import operator

from priory.inference.objectives import OBJECTIVES, Objective, Schedule
from priory.parsing.texts import convert, parse
from priory.signatures import Collector, split


def parse_objective(text: str) -> Objective:
    """Build an objective: a part, or a sum of parts with weights.

    Raises:
        Errors: naming every error of every term.

    Example:
        >>> len(parse_objective("reconstruction + 10*match:mmd").terms())
        2
    """
    errors = Collector()
    terms = []
    for term in split(text, "+"):
        *weights, part = split(term, "*")
        objective = errors.attempt(parse, "objective", part, OBJECTIVES)
        for weight in weights:
            factor = errors.attempt(
                convert, weight, float | Schedule, prefix=f"{term}: the weight "
            )
            if objective is not None and factor is not None:
                objective = factor * objective
        terms.append(objective)
    errors.check()
    total: Objective | None = errors.attempt(functools.reduce, operator.add, terms)
    errors.check()
    assert total is not None  # noqa: S101
    return total
