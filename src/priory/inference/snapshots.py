"""The same samples, drawn again and again while a pair is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from priory.data import Data
from priory.inference.modules import eval_mode, modules
from priory.inference.phases.phases import generate
from priory.inference.randomness import own_randomness

SMALL = 16
"""Data of so many numbers at most are drawn in hundreds, as points; larger ones, as pictures."""

_POINTS, _PICTURES = 512, 64


class Snapshots:
    """Draws the same samples at some steps of a run, each time from the same random state.

    So that each row has the same latent, and what changes is what was learnt.

    Args:
        every: epochs from one to the next; 0 for none.
        seed: of the draws.
    """

    def __init__(self, every: int, seed: int) -> None:
        self.every, self.seed = every, seed
        self.taken: dict[int, Tensor] = {}

    def due(self, epochs: int, *, last: bool = False) -> bool:
        """Return whether it is time: at the start, every so many epochs, and at the end.

        Args:
            epochs: how many are behind.
            last: whether that was the last.
        """
        return self.every > 0 and (last or epochs % self.every == 0)

    @torch.no_grad()
    def take(self, step: int, pair: Any, data: Data) -> None:
        """Draw the samples: the means of p(x | z) of pictures, else x itself.

        Args:
            step: number of steps behind.
            pair: what is trained.
            data: its training rows give the shapes, and whatever the model is conditioned on.

        Raises:
            ValueError: if the model draws no x.
        """
        small = data.train.shape == () or torch.Size(data.train.shape).numel() <= SMALL
        n = _POINTS if small else _PICTURES
        with own_randomness(data.device, self.seed), eval_mode(modules(pair.model, pair.guide)):
            columns = data.train.take(slice(0, n))
            drawn = generate(pair.model, columns, n)
        if "x" not in drawn:
            raise ValueError(
                f"snapshot_every keeps samples of x, and the model draws {', '.join(drawn)} alone; "
                "leave it out"
            )
        x = drawn["x"] if small else drawn.get("x_mean", drawn["x"])
        self.taken[step] = x.detach().cpu().clone()
