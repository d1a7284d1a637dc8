"""Which training rows a model is scored on, for priors that are made of such rows themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_TRAINING: ContextVar[bool] = ContextVar("training", default=False)
_SCORED: ContextVar[Tensor | None] = ContextVar("scored", default=None)


@contextmanager
def numbered() -> Iterator[None]:
    """Let batches' column `index` be the numbers that `Prior.set_rows` was given, for a while.

    A training opens it around its steps. Anywhere else rows have numbers too, of another split.
    """
    token = _TRAINING.set(True)
    try:
        yield
    finally:
        _TRAINING.reset(token)


@contextmanager
def scored(numbers: Tensor | None) -> Iterator[None]:
    """Let a prior know the rows whose latents it scores, for a while; only within `numbered`.

    Args:
        numbers: Of the training rows of a batch, `(batch,)`; None where they are not known.
    """
    token = _SCORED.set(numbers if _TRAINING.get() else None)
    try:
        yield
    finally:
        _SCORED.reset(token)


def scored_rows() -> Tensor | None:
    """Return the numbers of the training rows that are scored, `(batch,)`, None of any others.

    Example:
        >>> with scored(torch.arange(3)):  # not in a training
        ...     scored_rows()
        >>> with numbered(), scored(torch.arange(3)):
        ...     scored_rows()
        tensor([0, 1, 2])
    """
    return _SCORED.get()
