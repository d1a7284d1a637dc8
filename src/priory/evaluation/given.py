"""What an evaluation is handed: a run or a pair, with or without data of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from priory.data import Data
from priory.data.named import IMAGE_SETS
from priory.data.toys import TOYS
from priory.evaluation.columns import Columns
from priory.inference.arguments import build as build_from


def check_counts(counts: Mapping[str, int], seed: int) -> None:
    """Raise a ValueError unless counts are positive and the seed is not negative.

    Args:
        counts: by name.
        seed: the seed.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")


def resolve(pair: Any, data: Any) -> tuple[Any, Any, Any]:
    """Answer the run (or None), the pair and the data.

    Args:
        pair: a run, or an object with `model` and `guide`.
        data: the data; a run's own if `None`.

    Raises:
        ValueError: if a program or the data are missing.
    """
    run = None
    if hasattr(pair, "pair") and hasattr(pair, "data"):
        run, pair = pair, pair.pair
        data = run.data if data is None else data
    missing = [name for name in ("model", "guide") if not callable(getattr(pair, name, None))]
    if missing:
        raise ValueError(
            f"pair must have the methods model and guide, {type(pair).__name__} lacks "
            f"{missing[0]}; give two functions as types.SimpleNamespace(model=..., guide=...)"
        )
    if data is None:
        raise ValueError("data must be given with a pair; only a run brings its own")
    return run, pair, data


def build(pair: Any, columns: Columns) -> None:
    """Make the parameters of a pair that was never trained, without touching the random state.

    Args:
        pair: the pair.
        columns: data like those that it is for.
    """
    if callable(getattr(pair, "build", None)) and "x" in columns:
        with torch.random.fork_rng(devices=[]):
            build_from(pair, columns["x"], columns)


def like_own(other: Any, data: Any) -> Any:
    """Answer other data, opened by name with the binarisation of one's own.

    Args:
        other: data, or their name.
        data: one's own.
    """
    if not isinstance(other, str):
        return other
    fixed = other in TOYS or (other in IMAGE_SETS and IMAGE_SETS[other].binarise == "none")
    return Data.open(other, binarise="auto" if fixed else getattr(data, "binarise", "auto"))


def name_of(pair: Any) -> str:
    """Answer what to call a pair.

    Args:
        pair: the pair.
    """
    name = type(pair).__name__
    return "pair" if name in ("SimpleNamespace", "type", "module") else name
