"""Measurements in processes of their own, with the memory that each held at most."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import synchronise


def apart(function: Callable[[], Any], device: torch.device, threads: int) -> dict[str, Any]:
    """Return what a function finds in a process of its own, forked from this one.

    Nothing may have run on several threads or on CUDA before.

    Args:
        function: returns a dictionary that can be pickled, or None.
        device: whose memory counts.
        threads: of torch.

    Returns:
        What the function found, with its seconds and, under "mebibytes", the peak of what the
        process held beyond what it began with (on CUDA: of what torch allocated).

    Raises:
        RuntimeError: if the process ends without an answer.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(function, device, threads, theirs))
    process.start()
    theirs.close()
    answer: dict[str, Any] = {}
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a measurement ended with status {process.exitcode}") from None
    process.join()
    return answer


def _answer(
    function: Callable[[], Any], device: torch.device, threads: int, out: Connection
) -> None:
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.zeros(1, device=device)
    gc.collect()  # what falls away meanwhile would hide what is held
    before = _resident(device)
    start = time.perf_counter()
    found = function()
    synchronise(device)
    seconds = time.perf_counter() - start
    out.send({"seconds": seconds, "mebibytes": _peak(device) - before, **(found or {})})


def _resident(device: torch.device) -> float:
    """Return how much memory the process holds now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak(device: torch.device) -> float:
    """Return how much memory the process has held at most, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # a child's ru_maxrss begins with its parent's
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
