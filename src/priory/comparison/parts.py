"""The parts that are compared: their labels, and a fresh copy for every fit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from priory.inference import Objective
from priory.inference.objectives.base import Scaled, Sum
from priory.recipes import Recipe
from priory.serialisation import from_config, to_config

Parts = str | Any | Sequence[Any] | Mapping[str, Any]


def labelled(given: Parts) -> dict[str, Any]:
    """Return parts by label: text labels itself, objects by their class and what they change.

    Args:
        given: text, an object, several of these, or a mapping from labels to them.

    Raises:
        ValueError: if two have the same label.
    """
    if isinstance(given, Mapping):
        return dict(given)
    several = isinstance(given, Sequence) and not isinstance(given, str)
    parts = [(spell(part), part) for part in (given if several else [given])]
    if len(dict(parts)) < len(parts):
        raise ValueError(f"parts to compare need different labels, got {[n for n, _ in parts]}")
    return dict(parts)


def spell(part: Any) -> str:
    """Return a part as one would type it.

    Args:
        part: text, a recipe, a prior or an objective.

    Example:
        >>> from priory.priors import VampPrior
        >>> spell(VampPrior(100))
        'VampPrior(components=100)'
    """
    if isinstance(part, str):
        return part
    if isinstance(part, Recipe):
        return part.name
    if isinstance(part, Sum):
        return " + ".join(spell(term) for term in part.objectives)
    if isinstance(part, Scaled):
        return f"{part.weight} * {spell(part.objective)}"
    told = []
    for name, parameter in inspect.signature(type(part)).parameters.items():
        value = getattr(part, name, parameter.default)
        if value is not parameter.default and value != parameter.default:
            bare = parameter.default is parameter.empty
            told.append(_short(value) if bare else f"{name}={_short(value)}")
    return f"{type(part).__name__}({', '.join(told)})"


def fresh(part: Any) -> Any:
    """Return a new part like the given one, without its weights; text and numbers as they are."""
    if not isinstance(part, Objective | nn.Module):
        return part
    try:
        return from_config(to_config(part))
    except ValueError:  # a class of the user's own
        return deepcopy(part)


def comma_list(text: str) -> list[str]:
    """Return the parts of a list with commas; `mlp:200,200` is one part, not two.

    Example:
        >>> comma_list("normal,flow:3:64,64,vamp")
        ['normal', 'flow:3:64,64', 'vamp']
    """
    return [part.strip() for part in re.split(r",(?=\s*[^\s\d,])(?![^(]*\))", text)]


def slug(label: str) -> str:
    """Return a label as a name for a folder.

    Example:
        >>> slug("vamp:100, iwae:10")
        'vamp-100-iwae-10'
    """
    return re.sub(r"[^\w.]+", "-", label).strip("-")


def _short(value: Any) -> str:
    return value.__name__ if callable(value) and hasattr(value, "__name__") else repr(value)
