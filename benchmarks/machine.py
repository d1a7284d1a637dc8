"""The machine that a time belongs to: its name, its cores, its load, its arithmetic."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import pyro
import torch

PEERS = ("jax", "numpyro", "pythae")


def confine(threads: int, device: torch.device) -> str:
    """Give every library the same number of cores, and return how, as text.

    The process is bound to as many cores as there are threads, which JAX's pool goes by, and
    torch is told the number. To be called before JAX is imported.

    Args:
        threads: of torch, and cores of the process.
        device: only a CPU's cores are worth sharing out.
    """
    torch.set_num_threads(threads)
    if device.type != "cpu" or not hasattr(os, "sched_setaffinity"):
        return f"torch has {threads} threads, the process all cores"
    cores = sorted(os.sched_getaffinity(0))[:threads]
    for task in os.listdir("/proc/self/task"):  # a library may have started threads at import
        os.sched_setaffinity(int(task), cores)
    if len(cores) < threads:
        return f"torch has {threads} threads on the {len(cores)} cores that there are"
    return f"the process is bound to {threads} cores, and torch has as many threads"


def synchronise(device: torch.device) -> None:
    """Wait for a device that works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware(device: torch.device) -> str:
    """Name the processor and the versions that a time belongs to."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.partition(": ")[2] for s in lines if s.startswith("model name")), model)
    if device.type == "cuda":
        model = f"{torch.cuda.get_device_name(device)}, {model}"
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, pyro {pyro.__version__}"
    )


def versions() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load() -> float:
    """Return how many processes wanted a core, averaged over the last minute."""
    return os.getloadavg()[0]


def products(device: torch.device, seconds: float = 0.1) -> float:
    """Measure the rate of float32 matrix products, in operations per second.

    Args:
        device: whose.
        seconds: how long to measure, at least.
    """
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.rand(2, n, n, device=device)
    out = a @ b
    synchronise(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(a, b, out=out)
        synchronise(device)
        count += 1
    return 2 * n**3 * count / (time.perf_counter() - start)
