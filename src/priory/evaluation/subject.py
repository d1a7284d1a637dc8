"""What an evaluation is handed: a run or a pair, with or without data of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

from priory.data.inputs import in_memory
from priory.data.rows import prepared
from priory.evaluation.rows import Columns
from priory.inference.alone import alone
from priory.inference.phases.arguments import build as build_from

SAMPLES = 2000  # rows of each set that sample metrics compare: their cost grows with the square
STEPS = 1000  # annealing temperatures, or steps of a chain
FEW = 100  # rows that the slow metrics look at
CodesFrom = Literal["auto", "encoder", "samples", "inversion"]
"""Where the points come from that paths join; see `interpolation.codec_of`."""


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
    """Return the run (or None), the pair and the data, prepared as the run's were.

    Args:
        pair: a run, or an object with `model` and `guide`.
        data: the data; a run's own if `None`.

    Raises:
        ValueError: if a program or the data are missing.
    """
    run = None
    if hasattr(pair, "pair") and hasattr(pair, "data"):
        run, pair = pair, pair.pair
        data = run.data if data is None else prepared(data, preparation_of(run))
    else:
        data = in_memory(data)
    missing = [name for name in ("model", "guide") if not callable(getattr(pair, name, None))]
    if missing:
        raise ValueError(
            f"pair must have the methods model and guide, {type(pair).__name__} has no "
            f"{missing[0]}; give two functions as types.SimpleNamespace(model=..., guide=...)"
        )
    if data is None:
        raise ValueError("data must be given with a pair; only a run brings its own")
    return run, pair, data


@contextmanager
def opened(run: Any) -> Iterator[Any]:
    """Return the pair of a run, inside the run's own parameter store; a pair is returned as it is.

    Args:
        run: a run, or an object with `model` and `guide`.

    Raises:
        ValueError: if it is neither.
    """
    pair = getattr(run, "pair", run)
    if not callable(getattr(pair, "model", None)) or not callable(getattr(pair, "guide", None)):
        raise ValueError(
            f"expected a run, or a pair with the methods model and guide, got {type(pair).__name__}"
        )
    with scope_of(run):
        yield pair


def scope_of(run: Any) -> AbstractContextManager[Any]:
    """Return the scope of a run's parameters; of a pair that is none, nothing.

    Args:
        run: a run, or a pair.
    """
    return run.scope() if hasattr(run, "scope") else nullcontext()


def build(pair: Any, columns: Columns) -> None:
    """Make the parameters of a pair that was never trained, without touching the random state.

    Args:
        pair: the pair.
        columns: data like those that it is for.
    """
    if callable(getattr(pair, "build", None)) and "x" in columns:
        with alone(), torch.random.fork_rng(devices=[]):
            build_from(pair, columns["x"], columns)


def preparation_of(run: Any) -> Any:
    """Return how a run's training rows were prepared; None if it does not say.

    Args:
        run: a run, or a pair.
    """
    return getattr(run, "preparation", None)


def check_background(background: Any, preparation: Any) -> None:
    """Raise a ValueError unless a background run's rows were in the units of the run's.

    Args:
        background: a run.
        preparation: of the run's rows; None if it is not known.
    """
    other = preparation_of(background)
    if preparation is None or other is None:
        return
    if (other.mean, other.scale) != (preparation.mean, preparation.scale):
        raise ValueError(
            "the background's rows were standardised by another mean and sd than the run's, so "
            "that their densities don't compare; train it on rows that are mutated as the run's "
            "data hold them: Data.from_arrays(mutate(run.data.train.x, 0.2))"
        )


def name_of(pair: Any) -> str:
    """Return what to call a pair.

    Args:
        pair: the pair.
    """
    name = type(pair).__name__
    return "pair" if name in ("SimpleNamespace", "type", "module") else name
