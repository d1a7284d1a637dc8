"""Draws of a run on every row of some data, in their order, as it judges its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from priory.data.rows import is_file, rows_of_file
from priory.evaluation.isolation import placement, sealed
from priory.evaluation.rows import check, has_splits, place, read, split_of
from priory.evaluation.subject import (
    build,
    check_counts,
    preparation_of,
    resolve,
    scope_of,
)
from priory.inference.distributed.launch import start
from priory.inference.modules import device_of
from priory.inference.phases.arguments import likelihood_at, signature
from priory.inference.support import check_rows

if TYPE_CHECKING:
    from priory.evaluation.draws import Draws


@contextmanager
def drawn(
    run: Any, data: Any, *, split: str, seed: int, particles: int = 1, whole: bool = True
) -> Iterator[Draws]:
    """Yield draws of a run on every row, inside `sealed`.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: whatever `evaluate` takes, prepared as there; of a file all rows, in its order.
        split: which part of a `Data`.
        seed: seed of all draws.
        particles: importance samples K per datum.
        whole: whether every column that the model asks for is needed.

    Raises:
        ValueError: if the rows can't be had, are NaN or infinite, or lie outside of the
            likelihood's support.
    """
    from priory.evaluation.draws import Draws
    from priory.evaluation.sample_sets import Units

    check_counts({"particles": particles}, seed)
    if is_file(data):
        data, _ = rows_of_file(data, preparation_of(run))
    run, pair, data = resolve(run, data)
    columns = split_of(data, split)
    build(pair, check(read(data.train), "train") if has_splits(data) else columns)
    like = placement(pair, pair.model, pair.guide)
    device = device_of([like, *columns.values()])
    with start(), scope_of(run), sealed(pair, pair.model, pair.guide, device=device):
        placed = place(columns, like)
        if whole or not {*signature(pair.model).required} - {*columns}:
            check_rows(pair.model, pair.guide, placed, "the rows")
        elif (likelihood := likelihood_at(pair.model, "x")) is not None:
            likelihood.check(placed["x"])
        yield Draws(
            pair.model,
            pair.guide,
            columns,
            particles=particles,
            seed=seed,
            units=Units.of(data if run is None else run.data),
        )
