"""Every check and benchmark that needs a CUDA machine, in one command: python -m benchmarks.gpu.

Ends within ten minutes. Each part runs in a process of its own with a limit of its own; one that
fails or runs out of time stops no other. What a part finds is in `gpu-PART.json` in the folder of
results, how each ended in `gpu-summary.json`, and the exit status is 0 if all ended well.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --parts tests resume
    python -m benchmarks.gpu --device cpu --small --out trial      # try the command itself
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import PARTS
from benchmarks.machine import hardware

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
DEADLINE = 570.0  # seconds for everything

# Seconds for each part, in the order in which they run. The sum is more than there is: parts end
# sooner, and what remains at the deadline is cut.
LIMITS = {
    "tests": 120.0,
    "resume": 40.0,
    "evaluate": 40.0,
    "step-vae": 100.0,
    "bf16": 40.0,
    "runs": 50.0,
    "step-conv": 90.0,
    "step-iwae": 80.0,
    "step-wae": 70.0,
    "scaling": 70.0,
    "zoo": 100.0,
}


def command(part: str, device: str, small: bool, out: Path) -> list[str]:
    """Return the command line of a part."""
    file = ["--device", device, "--json", str(out / f"gpu-{part}.json")]
    if part == "tests":
        return [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider"]
    if part.startswith("step-"):
        line = [sys.executable, "-m", "benchmarks.step", "--cases", part.removeprefix("step-")]
        few = ["--rounds", "1", "--warm", "3", "--contenders", "priory", "priory, CUDA graph"]
        return [*line, *file, *(few if small else ["--rounds", "10"])]
    if part == "scaling":
        line = [sys.executable, "-m", "benchmarks.scaling", "--short", "--contenders"]
        little = ["--seconds", "0", "--vary", "latent"]
        return [*line, "priory", "torch", *file, *(little if small else ["--seconds", "0.3"])]
    if part == "zoo":
        line = [sys.executable, "-m", "benchmarks.zoo", "--modes", "off", "cudagraph", *file]
        return [*line, "--rounds", "1", "--recipes", "vae", "gan"] if small else line
    line = [sys.executable, "-m", "benchmarks.gpu", "--part", part, *file]
    return [*line, "--small"] if small else line


def run(line: Sequence[str], limit: float) -> dict[str, Any]:
    """Run a command for at most so long, and return how it ended.

    Args:
        line: the command.
        limit: in seconds; then it is ended, with all that it started.
    """
    start = time.perf_counter()
    process = subprocess.Popen(line, cwd=ROOT, start_new_session=True)
    try:
        status: int | str = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = "out of time"
    with contextlib.suppress(ProcessLookupError):  # what it may have left running
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {"status": status, "seconds": round(time.perf_counter() - start, 1)}


def everything(parts: Sequence[str], device: str, small: bool, out: Path) -> list[dict[str, Any]]:
    """Run the parts one after the other until the deadline, and keep the summary.

    Args:
        parts: names out of `LIMITS`.
        device: where.
        small: whether it is only a trial of the command.
        out: folder of the results.
    """
    out.mkdir(parents=True, exist_ok=True)
    ends = time.perf_counter() + DEADLINE
    summary: list[dict[str, Any]] = []
    for part in parts:
        limit = min(LIMITS[part], ends - time.perf_counter())
        print(f"\n== {part} (at most {limit:.0f} s)", flush=True)
        line = command(part, device, small, out)
        ended = run(line, limit) if limit > 1 else {"status": "not run", "seconds": 0.0}
        summary.append({"part": part, **ended})
        (out / "gpu-summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def one(part: str, device: torch.device, small: bool, file: Path) -> None:
    """Run a part in this process and write its JSON."""
    found = PARTS[part](device, small)
    result = {"hardware": hardware(device), "small": small, "result": found}
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="try the command, measure nothing")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--part", choices=list(PARTS), help="run this part in this process")
    parser.add_argument("--json", type=Path, help="the file of --part")
    o = parser.parse_args(arguments)
    if o.dry_run:
        for part in o.parts:
            print(f"{LIMITS[part]:4.0f} s  {' '.join(command(part, o.device, o.small, o.out))}")
        return
    if o.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this machine has no CUDA device that torch sees; --device cpu --small is a trial")
    if o.part:
        one(o.part, torch.device(o.device), o.small, o.json)
        return
    out = o.out.resolve()
    summary = everything(o.parts, o.device, o.small, out)
    for row in summary:
        print(f"{row['part']:12}{row['status']!s:>12}{row['seconds']:8.1f} s")
    sys.exit(any(row["status"] != 0 for row in summary))


if __name__ == "__main__":
    main()
