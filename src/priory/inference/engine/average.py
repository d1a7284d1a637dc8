"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    r"""Keeps a <- d a + (1 - d) p for every parameter p, with d = min(decay, (1 + t) / (10 + t)).

    The decay grows with the step t, so that the first weights are soon forgotten.

    Args:
        decay: d in the long run, between 0 and 1.

    Raises:
        ValueError: if the decay is out of range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.values: dict[str, Tensor] = {}
        self._waiting: dict[str, Tensor] = {}
        self._rate = 0.0
        self._weight: Tensor | None = None

    def tick(self, step: int, device: torch.device) -> None:
        """Set the weight of the new parameters, in place where a captured step reads it.

        Args:
            step: number of steps taken so far.
            device: where the weight is read.
        """
        self._rate = 1 - min(self.decay, (1 + step) / (10 + step))
        if device.type == "cuda":
            self._weight = torch.empty((), device=device) if self._weight is None else self._weight
            self._weight.fill_(self._rate)

    @torch.no_grad()
    def update(self, params: Mapping[str, Tensor], flag: Tensor | None = None) -> None:
        """Move towards the parameters, after `tick`.

        Args:
            params: the parameters by name; new ones are taken in as they are.
            flag: 1.0 where the step was not taken, shape (), on the device.
        """
        for name in [n for n in params if n not in self.values]:
            self.values[name] = self._waiting.pop(name, params[name]).detach().clone()
        values = list(self.values.values())
        targets = [params[n].detach() for n in self.values]
        if flag is None or self._weight is None:
            torch._foreach_lerp_(values, targets, self._rate)
            return
        change = torch._foreach_sub(targets, values)
        torch._foreach_mul_(change, self._weight * (1 - flag))
        torch._foreach_add_(values, change)

    @torch.no_grad()
    def swap(self, params: Mapping[str, Tensor]) -> None:
        """Exchange the averages and the parameters."""
        for name, average in self.values.items():
            kept = params[name].detach().clone()
            params[name].copy_(average)
            average.copy_(kept)

    @torch.no_grad()
    def adopt(self, params: Mapping[str, Tensor]) -> None:
        """Give the parameters their averages for good."""
        for name, average in self.values.items():
            params[name].copy_(average)

    def load(self, values: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
        """Go on from averages by name."""
        self.values = {n: v.to(params[n], copy=True) for n, v in values.items() if n in params}
        self._waiting = {n: v for n, v in values.items() if n not in params}
