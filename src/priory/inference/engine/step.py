"""A training step, whole: what every engine computes, and the eager one does as it stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from priory.inference.distributed import ranks
from priory.inference.engine.players import Player


def take(
    player: Player,
    args: tuple[Any, ...],
    columns: Mapping[str, Any],
    step: int,
    replay: Callable[[], Any] | None = None,
    clock: Tensor | None = None,
) -> tuple[Any, bool]:
    """Take one step of a player; return its loss, shape (), and whether the weights have moved.

    An engine has two shortcuts. `replay` sets the gradients by a graph of tensor operations, in
    place of running the programs. With a `clock`, a CUDA device judges the loss by itself, and its
    optimiser leaves the weights where the loss is NaN or infinite: nothing waits for the device.

    Args:
        player: the pair or a critic.
        args: one batch's positional arguments of both programs.
        columns: its arguments by name.
        step: number of the step.
        replay: sets the gradients and returns the loss, or None if there is no graph for this step.
        clock: the number of the step on the device.

    Raises:
        NonFinite: if the loss or a gradient is NaN or infinite; the weights are as before.
    """
    loss = None if replay is None else replay()
    if loss is None:
        loss = player.value(*args, **columns)  # the guide, the model on its latents, the objective
        if isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
            loss = loss.detach()
    params = player.trained()
    try:
        if ranks.world() > 1:
            averaged = [loss, player.check, *(p.grad for p in params)]
            ranks.average_([t for t in averaged if isinstance(t, Tensor)])
        if player.clip is not None:
            torch.nn.utils.clip_grad_norm_(params, player.clip)
        taken = player.judge(loss, step, clock)
        if taken:
            player.optim(params)
            player.bound()
    finally:
        player.forget_gradients()
    return loss, taken
