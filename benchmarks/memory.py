"""Peak memory of a full evaluation, K = 5000 on 10,000 rows of 784: python -m benchmarks.memory."""

from __future__ import annotations

import resource
import sys
import time

import torch

from priory.evaluation import evaluate
from priory.models import VAE
from priory.nets import MLP


def peak() -> float:
    """Answer the largest resident memory of this process so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(hidden: int = 200, latent: int = 50, rows: int = 10_000, particles: int = 5000) -> None:
    """Print the peak above what the model and the data take, and the time.

    Args:
        hidden: width of both hidden layers of encoder and decoder.
        latent: number of latents.
        rows: test rows.
        particles: K.
    """
    torch.manual_seed(0)
    x = (torch.rand(rows, 1, 28, 28) > 0.5).float()
    pair = VAE(encoder=MLP((hidden, hidden)), decoder=MLP((hidden, hidden)), latent=latent)
    pair.build(x)
    before, began = peak(), time.perf_counter()
    report = evaluate(pair, {"x": x, "y": torch.arange(rows) % 10}, particles=particles)
    print(report["nll"])
    print(f"{peak() - before:.0f} MiB above the model in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
