"""Whether the standard errors of precision, recall, density and coverage are right, by simulation.

    python -m benchmarks.manifold_errors                   # 400 draws a case, 15 min on one core
    python -m benchmarks.manifold_errors --draws 50 --case modes

For each case two sets of 200 rows are drawn again and again; the mean reported error is divided by
the standard deviation of the values. A ratio of 400 draws is itself known to 4%.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import hardware
from priory.evaluation.samples.manifold import manifold
from priory.evaluation.samples.manifold_errors import manifold_errors

RESULTS = Path(__file__).parent / "results" / "manifold_errors.json"
ROWS = 200
METRICS = ("precision", "recall", "density", "coverage")
Draw = Callable[[torch.Generator], Tensor]


def normal(dims: int, shift: float = 0.0, scale: float = 1.0) -> Draw:
    """Return a draw of normal rows."""

    def draw(generator: torch.Generator) -> Tensor:
        x = torch.randn(ROWS, dims, generator=generator, dtype=torch.float64)
        return shift + scale * x

    return draw


def heavy(dims: int) -> Draw:
    """Return a draw of rows of Student's t distribution with three degrees of freedom."""

    def draw(generator: torch.Generator) -> Tensor:
        x = torch.randn(ROWS, dims, generator=generator, dtype=torch.float64)
        noise = torch.randn(3, ROWS, 1, generator=generator, dtype=torch.float64)
        return x / noise.square().mean(0).sqrt()

    return draw


def modes(narrow: float = 1.0) -> Draw:
    """Return a draw of five modes in two dimensions, six standard deviations apart."""

    def draw(generator: torch.Generator) -> Tensor:
        place = torch.randint(5, (ROWS,), generator=generator)
        x = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
        return torch.stack([narrow * (x[:, 0] + 6 * place), x[:, 1]], 1)

    return draw


CASES: dict[str, tuple[Draw, Draw]] = {
    "1-D, equal": (normal(1), normal(1)),
    "1-D, shifted": (normal(1, 0.5), normal(1)),
    "1-D, narrower": (normal(1), normal(1, scale=0.5)),
    "2-D, wider": (normal(2), normal(2, scale=1.5)),
    "3-D, equal": (normal(3), normal(3)),
    "3-D, shifted": (normal(3, 0.5), normal(3)),
    "3-D, far apart": (normal(3, 1.5), normal(3)),
    "10-D, equal": (normal(10), normal(10)),
    "10-D, shifted": (normal(10, 0.5), normal(10)),
    "heavy tails, 2-D": (heavy(2), heavy(2)),
    "heavy tails against normal, 5-D": (heavy(5), normal(5)),
    "five modes": (modes(), modes()),
    "five modes, squeezed": (modes(), modes(0.5)),
}


def simulated(case: str, draws: int) -> dict[str, dict[str, float]]:
    """Return each metric's mean value, its standard deviation, and the reported error over it."""
    values, errors = [], []
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        real, drawn = (draw(generator) for draw in CASES[case])
        values.append([float(value.mean()) for value in manifold(real, drawn)])
        errors.append(list(manifold_errors(real, drawn, generator)))
    spread, mean = torch.tensor(values).std(0), torch.tensor(values).mean(0)
    ratio = torch.tensor(errors).mean(0) / spread
    return {
        metric: {"mean": float(mean[i]), "sd": float(spread[i]), "ratio": float(ratio[i])}
        for i, metric in enumerate(METRICS)
    }


def main() -> None:
    """Simulate, print the ratios, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--case", choices=CASES, help="one case alone, which is not kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for case in [options.case] if options.case else CASES:
        rows[case] = simulated(case, options.draws)
        told = "  ".join(f"{name} {row['ratio']:.2f}" for name, row in rows[case].items())
        print(f"{case:32} {told}", flush=True)
    if not options.case:
        kept = {
            "draws": options.draws,
            "rows": ROWS,
            "machine": hardware(torch.device("cpu")),
            "cases": rows,
        }
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
