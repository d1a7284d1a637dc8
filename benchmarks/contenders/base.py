"""What a contender is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


class Missing(Exception):
    """A contender has nothing like the case, or is not installed; says which."""


def same(x: Any) -> Any:
    """Return the argument."""
    return x


def nothing() -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Contender:
    """One way of training a case's pair.

    Args:
        step: takes a batch, returns the loss.
        size: the number of data that the loss sums over, 1 for a mean.
        constant: what the loss per datum has more than the others', in nats.
        validation: whether Pyro's and torch's checks are on, as they are by default.
        convert: a batch `(batch, *shape)` into what `step` takes.
        wait: until all steps are done, where the device's own queue doesn't say so.
        state: of Pyro's parameter store, one for each contender.
    """

    step: Callable[[Any], Any]
    size: int = 1
    constant: float = 0.0
    validation: bool = True
    convert: Callable[[Tensor], Any] = same
    wait: Callable[[], None] = nothing
    state: dict[str, Any] = field(default_factory=lambda: {"params": {}, "constraints": {}})
