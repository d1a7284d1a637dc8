"""Batches that live on the CPU, served on a device one ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

ROOM = 0.5
"""Columns move to a CUDA device if they take at most this share of its free memory."""

Batch = dict[str, Tensor]


def ahead(batches: Iterable[Batch], device: torch.device | str) -> Iterator[Batch]:
    """Serve batches on a device, the next one on its way while the last is worked on.

    Onto a CUDA device they go through pinned memory and a stream of their own, so that neither the
    host nor the device waits for the copy. Elsewhere this is plain iteration.

    Args:
        batches: columns of equal length by name, on the CPU.
        device: where they are wanted.

    Example:
        >>> [batch["x"].tolist() for batch in ahead([{"x": torch.ones(2)}], "cpu")]
        [[1.0, 1.0]]
    """
    device = torch.device(device)
    if device.type != "cuda":
        for batch in batches:
            yield {name: column.to(device) for name, column in batch.items()}
        return
    side = torch.cuda.Stream(device)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(side):
            sent = {name: _send(column, device) for name, column in batch.items()}
        arrived = side.record_event()
        if waiting is not None:
            yield _receive(*waiting, device)
        waiting = sent, arrived
    if waiting is not None:
        yield _receive(*waiting, device)


def fits(nbytes: int, device: torch.device | str) -> bool:
    """Return whether columns may move to a device: always, but for CUDA's see `ROOM`."""
    device = torch.device(device)
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes <= ROOM * free


def _send(column: Tensor, device: torch.device) -> Tensor:
    return column.pin_memory().to(device, non_blocking=True)


def _receive(batch: Batch, arrived: torch.cuda.Event, device: torch.device) -> Batch:
    current = torch.cuda.current_stream(device)
    current.wait_event(arrived)
    for column in batch.values():
        column.record_stream(current)  # its memory is not used anew before the work on it is done
    return batch
