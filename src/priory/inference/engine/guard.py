"""A loss or gradient that is NaN or infinite stops a step before it touches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class NonFinite(ValueError):
    """A loss or a gradient is infinite or not a number; the weights are as they were before it.

    Args:
        step: number of the step, from 0.
        what: "the loss", "the gradient", or a critic's.
    """

    def __init__(self, step: int, what: str) -> None:
        self.step = step
        self.what = what
        super().__init__(
            f"{what} of step {step} is NaN or infinite; the weights are as they were before it: "
            "look at the data and the densities of that batch, lower lr, or clip the gradient"
        )


class Guard:
    """Lets a step pass only if its loss and its gradients are finite.

    On a CPU the verdict is read at once. On CUDA it stays on the device, where the optimiser's
    kernel obeys it, and `poll` reads it later: from the first step that is one too many on, no
    step moves a weight.

    Args:
        skip: how many steps with a NaN or infinite loss or gradient may be passed over.
    """

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f"skip must be 0 or more, got {skip}")
        self.skip = skip
        self.skipped = 0
        self._count: Tensor | None = None
        self._first: Tensor | None = None

    def verdict(
        self,
        step: int,
        loss: Any,
        params: Iterable[Tensor],
        check: Tensor | None = None,
        owner: str = "",
    ) -> bool:
        """Say on the host whether a step may be taken; a step that may not counts as skipped.

        Args:
            step: its number.
            loss: shape (), or what Pyro's losses return; `None` if the gradients alone count.
            params: those whose gradients are looked at.
            check: finite only if the loss and all gradients are, where that is known already.
            owner: of the loss, for the message: "critic's ".

        Raises:
            NonFinite: if the step may not be taken, and no more may be skipped.
        """
        if check is not None and math.isfinite(check.item()):
            return True
        culprit = _culprit(loss, params)
        if not culprit:
            return True
        self.skipped += 1
        if self.skipped > self.skip:
            self.skipped -= 1
            raise NonFinite(step, f"the {owner}{culprit}")
        return False

    def flag(self, step: Tensor, loss: Tensor | None, params: Iterable[Tensor]) -> Tensor:
        """Return, on the device and without waiting for it, 1.0 if a step may not be taken.

        Args:
            step: its number, shape (), on the device.
            loss: shape (); `None` if the gradients alone count.
            params: those whose gradients are looked at.
        """
        if self._count is None or self._first is None:
            self._count = torch.zeros_like(step)
            self._first = torch.full_like(step, -1)
        finite = torch.ones_like(step, dtype=torch.bool) if loss is None else loss.isfinite()
        gradients = [p.grad for p in params if p.grad is not None]
        if gradients:
            finite = finite & torch.stack(torch._foreach_norm(gradients)).sum().isfinite()
        self._count += ~finite
        over = self._count > self.skip
        self._first.copy_(torch.where(over & (self._first < 0), step, self._first))
        return (over | ~finite).float()

    def poll(self) -> None:
        """Read the device's verdicts.

        Raises:
            NonFinite: if a step stopped the training.
        """
        if self._count is None or self._first is None:
            return
        self.skipped = min(int(self._count), self.skip)
        if (first := int(self._first)) >= 0:
            raise NonFinite(first, "the loss or a gradient")


class Buffers:
    """A pair's buffers, such as running means, as they were after the last finite step.

    Args:
        modules: those that hold them.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.live = list({id(b): b for m in modules for b in m.buffers()}.values())
        self.kept = [b.clone() for b in self.live]

    @torch.no_grad()
    def settle(self, flag: Tensor | bool) -> None:
        """Keep the present values, or put the kept ones back where a loss was NaN or infinite.

        Args:
            flag: whether it was not; a tensor of shape () is not waited for.
        """
        if not self.live:
            return
        if isinstance(flag, Tensor):
            for live, kept in zip(self.live, self.kept, strict=True):
                live.copy_(torch.where(flag > 0, kept, live))
        elif flag:
            torch._foreach_copy_(self.live, self.kept)
        torch._foreach_copy_(self.kept, self.live)


def _culprit(loss: Any, params: Iterable[Tensor]) -> str:
    """Return what is NaN or infinite, "" if nothing is. By a sum each: the fastest on a CPU."""
    values = loss if isinstance(loss, list | tuple) else [] if loss is None else [loss]
    total = sum((float(torch.as_tensor(v).sum()) for v in values), 0.0)
    if not math.isfinite(total):
        return "loss"
    for p in params:
        if p.grad is not None:
            total += p.grad.sum().item()
    return "" if math.isfinite(total) else "gradient"
