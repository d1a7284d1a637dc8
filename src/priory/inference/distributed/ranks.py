"""Several processes as one: each takes its rows of a batch, and all take the same step.

Under `torchrun --nproc-per-node N` every process, a *rank*, runs the same program with the same
seed. What makes N ranks give the result of one process with the same global batch, up to the order
of sums, is called from these places:

- `start()`, of `launch.py`, around everything: in `fit` and `evaluate`, and around a command.
- `each(batch_size)` where options are checked; `shard=(rank(), world())` where data are served.
- `global_noise(rows)`, of `noise.py`, around each forward pass of a loss.
- `gather(samples)` where an objective compares sets of samples rather than single data.
- `average_([loss, *gradients])` before each optimiser step; `broadcast_` once after preparation.
- `agree(...)` now and then, `any_rank(flag)` for what all must decide alike.
- `is_main()` before anything is written or printed.

In one process each of them does nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from priory.lookup import first_line


class LostRank(ConnectionError):
    """Another rank has ended or does not answer; its own message has the cause."""


def rank() -> int:
    """Return this process's number among the ranks, 0 outside of `start`."""
    return dist.get_rank() if started() else 0


def world() -> int:
    """Return the number of ranks, 1 outside of `start`."""
    return dist.get_world_size() if started() else 1


def is_main() -> bool:
    """Return whether this process is the one that writes and prints, before `start` too."""
    return (rank() if started() else environment()[0]) == 0


def each(rows: int) -> int:
    """Return how many of a global batch's rows each rank takes.

    Args:
        rows: of the global batch.

    Raises:
        ValueError: if they cannot be shared out evenly.
    """
    if rows % world():
        raise ValueError(
            f"{rows} rows a batch cannot be shared evenly by {world()} ranks; choose a batch size "
            f"that is a multiple of {world()}"
        )
    return rows // world()


@torch.no_grad()
def average_(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their averages over the ranks, by one message for each kind of number.

    Args:
        tensors: the same number in the same order, with the same shapes, on every rank.
    """
    if world() == 1:
        return
    for group in _alike(tensors):
        flat = torch.cat([t.reshape(-1) for t in group])
        with contact():
            dist.all_reduce(flat)
        flat /= world()
        parts = flat.split([t.numel() for t in group])
        torch._foreach_copy_(group, [p.view_as(t) for p, t in zip(parts, group, strict=True)])


@torch.no_grad()
def total_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the ranks, and return it."""
    if world() > 1:
        with contact():
            dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def broadcast_(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of the main rank.

    Args:
        tensors: the same on every rank but for their values, such as weights and buffers.
    """
    if world() == 1:
        return
    for group in _alike(tensors):
        flat = torch.cat([t.reshape(-1) for t in group])
        with contact():
            dist.broadcast(flat, 0)
        parts = flat.split([t.numel() for t in group])
        torch._foreach_copy_(group, [p.view_as(t) for p, t in zip(parts, group, strict=True)])


def gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks in their order, `(world * n, ...)`; gradients flow back.

    A quantity of the gathered rows that is the same on every rank has, once the ranks' gradients
    are averaged, the gradient that one process would have found.

    Args:
        x: this rank's rows, `(n, ...)`, as many as every other rank's.
    """
    return x if world() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return all_gather(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = all_sum(gradients[0])
        size = len(total) // world()
        return total.narrow(0, rank() * size, size)


def all_gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks; has no gradient, and can stand in a traced graph."""
    with contact():
        return _wait(_ops().all_gather_into_tensor(x.contiguous(), world(), _group()))


def all_sum(x: Tensor) -> Tensor:
    """Return the sum over the ranks; has no gradient, and can stand in a traced graph."""
    with contact():
        return _wait(_ops().all_reduce(x.contiguous(), "sum", _group()))


def barrier() -> None:
    """Wait until every rank has come here."""
    total_(torch.zeros(()))


@contextmanager
def main_first() -> Iterator[None]:
    """Run a block on the main rank, then on the others: a download, say, that is then in place."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def any_rank(flag: bool) -> bool:
    """Return whether a flag is set on any rank; all ranks get the same answer."""
    return bool(total_(torch.tensor(float(flag)))) if world() > 1 else flag


def agree(what: str, tensors: Iterable[Tensor]) -> None:
    """Raise an error unless all ranks hold the same tensors.

    Args:
        what: the tensors' name in the error.
        tensors: on any device.

    Raises:
        RuntimeError: on every rank, naming those that differ from the main rank.
    """
    if world() == 1:
        return
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64)
    found = all_gather(own).tolist()
    other = [str(r) for r, value in enumerate(found) if value != found[0]]
    if other:
        raise RuntimeError(
            f"{what} of rank {', '.join(other)} is not that of rank 0: the pair does something "
            "that differs between ranks, such as drawing a number of times that depends on the "
            "data, or by another library than torch; train it in one process"
        )


def random_states() -> list[Tensor]:
    """Return the states of torch's global random generators, for `agree`."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else states


def started() -> bool:
    """Return whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def environment() -> tuple[int, int]:
    """Return rank and world as torchrun has set them, 0 and 1 where it has not."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@contextmanager
def contact() -> Iterator[None]:
    """Raise a failure to reach another rank as such."""
    try:
        yield
    except RuntimeError as error:
        raise LostRank(
            f"no answer from another rank, whose own message has the cause ({first_line(error)})"
        ) from error


def _alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group tensors by dtype and device, each group in the given order."""
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def _ops() -> Any:
    return torch.ops._c10d_functional


def _wait(x: Tensor) -> Tensor:
    waited: Tensor = _ops().wait_tensor(x)
    return waited


def _group() -> str:
    name: str = dist.distributed_c10d._get_default_group().group_name
    return name
