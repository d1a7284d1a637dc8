"""Every check and benchmark that needs a CUDA machine, in one command: python -m benchmarks.gpu.

Runs the tests marked `cuda`, the step benchmark on the device, and a short run of the VAE row of
the papers' table there and on the CPU, side by side. Writes `benchmarks/results/gpu-*.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.step import hardware
from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE
from priory.nets import MLP

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


def short_run(device: str) -> dict[str, float | str]:
    """Train the one-layer VAE for a thousand steps on binarised digits, and judge it.

    Args:
        device: where.
    """
    pair = VAE("normal", MLP((200, 200), "tanh"), MLP((200, 200), "tanh"), "bernoulli", 50)
    run = fit(pair, ELBO(), Data.named("digits"), steps=1000, device=device, valid_every=0)
    nll = evaluate(run, particles=1000, metrics=["nll"], pictures=False)["nll"]
    return {"device": device, "seconds": run.seconds, "nll": nll.value or 0.0, "se": nll.se or 0.0}


def main() -> None:
    """Run everything; end with the tests' exit code."""
    if not torch.cuda.is_available():
        sys.exit("this machine has no CUDA device that torch sees")
    tests = [sys.executable, "-m", "pytest", "-m", "cuda"]
    code = subprocess.run(tests, cwd=ROOT, check=False).returncode
    step = [sys.executable, "-m", "benchmarks.step", "--device", "cuda"]
    subprocess.run([*step, "--json", str(RESULTS / "gpu-step.json")], cwd=ROOT, check=True)
    rows = [short_run(device) for device in ("cuda", "cpu")]
    result = {"hardware": hardware(torch.device("cuda")), "runs": rows}
    (RESULTS / "gpu-runs.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(code)


if __name__ == "__main__":
    main()
