"""A run or a pair, opened to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor

from priory.data.rows import prepared
from priory.evaluation.subject import preparation_of


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
    with run.scope() if hasattr(run, "scope") else nullcontext():
        yield pair


def bound(run: Any, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """Bound log p(x) of each datum, `(n,)`, in nats, float64; see `log_likelihood`.

    Of a run on standardised data it is the density in the data's own units.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: a `Data`'s split, columns by name, a data frame or an array of x; prepared as the
            run's training rows were.
        particles: importance samples K per datum.
        seed: seed of the samples.
    """
    return bound_of(run, prepared(data, preparation_of(run)), particles=particles, seed=seed)


def bound_of(run: Any, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """Bound log p(x) of each datum as `bound` does, of rows that are prepared already.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: a split or columns by name.
        particles: importance samples K per datum.
        seed: seed of the samples.
    """
    from priory.evaluation.likelihood.bound import log_likelihood
    from priory.evaluation.sample_sets import Units

    with opened(run) as pair:
        found = log_likelihood(pair.model, pair.guide, data, particles, seed).log_likelihood
    units = Units.of(getattr(run, "data", None))
    return found if units is None else found - units.log_scale
