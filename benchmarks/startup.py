"""What it costs to start: the CPU time of each command's help, beside that of importing torch.

Each line is a process of its own, in a fresh order each round, that notes its user CPU time once it
has imported torch, where it needs torch, and when the command is done: what comes after torch is
far less noisy than a difference between processes. Medians over the rounds; the first, which writes
the byte code, does not count.

    python -m benchmarks.startup --rounds 7
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.machine import hardware
from priory.cli.entry import VERBS

FILE = Path(__file__).parent / "results" / "startup.json"
HELP = "from priory.cli import main; main(['{}', '--help'])"
FRONT = "from priory.cli import main; main(['--help'])"
COMMANDS = {
    "import priory.inference": "import priory.inference",
    **{f"priory {verb} --help": HELP.format(verb) for verb in VERBS},
}
ALONE = {"import priory": "import priory", "priory --help": FRONT}  # without torch
TIMED = """
import os, sys
{first}
torch = os.times().user
{code}
print(torch, os.times().user - torch, file=sys.stderr)
"""


def cpu_seconds(code: str, *, torch: bool) -> tuple[float, float]:
    """Return the user CPU time of a process up to its import of torch, and after it."""
    text = TIMED.format(first="import torch" if torch else "", code=code)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    before, after = map(float, done.stderr.split())
    return before, after


def measure(rounds: int) -> dict[str, float]:
    """Return the median user CPU time of each command, after torch's own, in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in ("import torch", *ALONE, *COMMANDS)}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(sorted([*ALONE, *COMMANDS]), len(taken) - 1):
            apart = name in ALONE
            before, after = cpu_seconds({**ALONE, **COMMANDS}[name], torch=not apart)
            if number:
                taken[name].append(before + after if apart else after)
                taken["import torch"] += [] if apart else [before]
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    seconds = measure(asked.rounds)
    print("| command | CPU seconds |\n| --- | --- |")
    for name, value in seconds.items():
        above = " above torch" if name in COMMANDS else ""
        print(f"| `{name}` | {value:.2f}{above} |")
    found = {
        "hardware": hardware(torch.device("cpu")),
        "rounds": asked.rounds,
        "user_seconds": seconds,
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
