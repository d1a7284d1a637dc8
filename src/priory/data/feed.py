"""Batches made on a device from row numbers alone, in buffers that stay where they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from priory.data.pixels import PIXELS
from priory.data.split import Split


class Feed:
    """The source of batches for a step that a device repeats by itself, as a CUDA graph does.

    `load` names the rows; `columns`, which can stand inside the graph, gathers and binarises them.
    On CUDA the batches are those of `Split.batches`; on a CPU pixels are drawn from another stream.

    Args:
        split: resident on a device.
        size: rows a batch.

    Raises:
        ValueError: if the split is not on its device.
    """

    def __init__(self, split: Split, size: int) -> None:
        if split.streamed:
            raise ValueError("a feed needs a split that lies on its device, not a streamed one")
        self.split = split
        self.rows = torch.zeros(size, dtype=torch.int64, device=split.device)
        self.generator = torch.Generator(split.device)

    def load(self, rows: Tensor, *, epoch: int, seed: int, batch: int) -> None:
        """Name the next batch.

        Args:
            rows: row numbers of shape (size,).
            epoch: number of the epoch; with `seed` and `batch` it decides the draw.
            seed: seed of the run.
            batch: number of the batch within the epoch.
        """
        self.rows.copy_(rows, non_blocking=True)
        if self.split.dynamic:
            sequence = np.random.SeedSequence((PIXELS, seed, epoch, batch))
            self.generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def columns(self) -> dict[str, Tensor]:
        """Return the batch."""
        batch = {n: column.index_select(0, self.rows) for n, column in self.split.columns.items()}
        if self.split.dynamic:
            grey = batch["x"]
            noise = torch.rand(grey.shape, generator=self.generator, device=grey.device)
            batch["x"] = noise.lt_(grey).to(grey.dtype)
        return batch
