"""How a process joins the others that torchrun has started, and how it leaves them."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.rendezvous import rendezvous

from priory.inference.distributed.ranks import contact, environment, rank, started, world

TIMEOUT = 300.0  # seconds
_STARTS = itertools.count()


@contextmanager
def start(*, timeout: float | None = None, quiet: bool = False) -> Iterator[None]:
    """Join the ranks that torchrun has started; nothing happens in one process, or a second time.

    An error inside is logged with this rank's number and handed to torchrun's own report. Each rank
    of a machine takes a CUDA device of its own for the current one; see `check_device`.

    Args:
        timeout: seconds to wait for another rank; the variable `PRIORY_TIMEOUT` or 300 by default.
        quiet: whether only the main rank writes to the standard output.

    Raises:
        LostRank: if the others do not come, or one of them ends early.
    """
    number, total = environment()
    if total == 1 or started():
        yield
        return
    cuda = torch.cuda.is_available()
    seconds = float(os.environ.get("PRIORY_TIMEOUT", TIMEOUT)) if timeout is None else timeout
    handler = get_error_handler()
    handler.initialize()
    try:
        if _local() < torch.cuda.device_count():
            torch.cuda.set_device(_local())
        with contact():
            wait = timedelta(seconds=seconds)
            # Torchrun's store outlives a group, whose addresses a later one must not read.
            store, _, _ = next(rendezvous("env://", number, total, timeout=wait))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                store=PrefixStore(f"priory {next(_STARTS)}", store),
                rank=number,
                world_size=total,
                timeout=wait,
            )
        with ExitStack() as stack:
            if quiet and number:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
            yield
    except Exception as error:
        handler.record_exception(error)
        told = f"priory: rank {number} of {total} failed: {type(error).__name__}: {error}"
        print(told, file=sys.stderr, flush=True)
        raise
    finally:
        # NCCL would wait here for a rank that is gone.
        if started() and not (cuda and sys.exc_info()[0]):
            dist.destroy_process_group()


def check_device(device: torch.device) -> None:
    """Raise unless this rank has a device of its own.

    Args:
        device: what the ranks compute on.

    Raises:
        ValueError: if there are more ranks on a machine than CUDA devices.
    """
    devices = torch.cuda.device_count()
    if world() > 1 and device.type == "cuda" and _local() >= devices:
        raise ValueError(
            f"rank {rank()} has no CUDA device to itself, its machine has {devices}; pass "
            f"--nproc-per-node {devices} to torchrun, or device='cpu'"
        )


def _local() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))
