"""What it costs to start: the CPU time of each command's help, beside that of importing torch.

Each line is a process of its own, in a fresh order each round; the user CPU time is the median over
rounds. The first round, which writes the byte code, does not count.

    python -m benchmarks.startup --rounds 7
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.machine import hardware
from priory.cli.entry import VERBS

FILE = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import priory": ["-c", "import priory"],
    "import priory.inference": ["-c", "import priory.inference"],
    "priory --help": ["-m", "priory", "--help"],
    **{f"priory {verb} --help": ["-m", "priory", verb, "--help"] for verb in VERBS},
}


def cpu_seconds(words: list[str]) -> float:
    """Return the user CPU time of a Python process."""
    before = os.times().children_user
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return os.times().children_user - before


def measure(rounds: int) -> dict[str, float]:
    """Return the median user CPU time of each command, in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(sorted(COMMANDS), len(COMMANDS)):
            seconds = cpu_seconds(COMMANDS[name])
            if number:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    seconds = measure(asked.rounds)
    print("| command | CPU seconds | above torch |\n| --- | --- | --- |")
    for name, value in seconds.items():
        print(f"| `{name}` | {value:.2f} | {value - seconds['import torch']:+.2f} |")
    found = {
        "hardware": hardware(torch.device("cpu")),
        "rounds": asked.rounds,
        "user_seconds": seconds,
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
