"""Numbers that change with the training step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Schedule(ABC):
    """A number that is a function of the training step.

    One may stand wherever an objective, a learning rate or a pair takes a number: a weight, a beta,
    a temperature (an attribute of the pair or of one of its modules). `SVI` moves all that it finds
    on by one at each step; `current(schedule)` is the present value, as `float(schedule)` is where
    steps are not compiled.
    """

    name: ClassVar[str]
    step: int = 0
    _value: Tensor | None = None

    @abstractmethod
    def at(self, step: int) -> float:
        """Return the value at a step."""

    def __float__(self) -> float:
        """Return the present value."""
        if self._value is not None:
            from torch.fx.experimental.proxy_tensor import get_proxy_mode

            if get_proxy_mode() is not None:
                raise TypeError("a schedule is read by float(); read it by current() instead")
        return float(self.at(self.step))

    def move(self, step: int) -> None:
        """Go to a step."""
        self.step = step
        if self._value is not None:
            self._value.fill_(self.at(step))

    def lift(self, device: torch.device) -> None:
        """Keep the present value in a tensor, which a graph of tensor operations can read anew."""
        self._value = torch.tensor(self.at(self.step), dtype=torch.float64, device=device)


class Linear(Schedule):
    """A straight line from start to end over a number of steps, then constant.

    Args:
        start: value at step 0.
        end: value from `steps` on.
        steps: length of the ramp.
    """

    name = "linear"

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start, self.end, self.steps = start, end, _length(steps)

    def at(self, step: int) -> float:
        """Return the value at a step."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


class Cosine(Schedule):
    """Half a cosine from start to end over a number of steps, then constant.

    end + (start - end) (1 + cos(pi t)) / 2. Loshchilov and Hutter, SGDR, 2017.

    Args:
        start: value at step 0.
        end: value from `steps` on.
        steps: length of the descent.
    """

    name = "cosine"

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start, self.end, self.steps = start, end, _length(steps)

    def at(self, step: int) -> float:
        """Return the value at a step."""
        t = min(step / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * t)) / 2


class Exponential(Schedule):
    """A geometric path from start to end over a number of steps, then constant.

    Args:
        start: value at step 0, not 0.
        end: value from `steps` on, of the same sign.
        steps: length of the path.
    """

    name = "exponential"

    def __init__(self, start: float, end: float, steps: int) -> None:
        if start * end <= 0:
            raise ValueError(f"start and end must have the same sign, got {start} and {end}")
        self.start, self.end, self.steps = start, end, _length(steps)

    def at(self, step: int) -> float:
        """Return the value at a step."""
        ratio: float = self.end / self.start
        return self.start * ratio ** min(step / self.steps, 1.0)


NAMES = ("constant", "cosine", "linear")
"""Schedules of a learning rate that a run may name."""


def named_schedule(name: str, steps: int) -> Schedule | None:
    """Return the schedule of a factor that falls over a whole training, None for a constant.

    Args:
        name: one of `NAMES`: "cosine" falls to a hundredth, "linear" to 0.
        steps: of the training.
    """
    if name == "cosine":
        return Cosine(1.0, 0.01, steps)
    return Linear(1.0, 0.0, steps) if name == "linear" else None


def current(value: float | Schedule) -> float | Tensor:
    """Return a number, or a schedule's present value, which is a tensor in compiled steps.

    Args:
        value: a number or a schedule.
    """
    if isinstance(value, Schedule) and value._value is not None:
        return value._value
    return float(value)


def _length(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return steps
