"""Matrix products by torch's usual library and by the one that compiled steps take on this CPU.

    python -m benchmarks.products

times the products of a layer, forward and backward, by turns, in CPU seconds of one thread, and
writes the table into docs/results.md.
"""

from __future__ import annotations

import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import kept, pages
from priory.inference.engine import products

FILE = kept.FOLDER / "products.json"
ROWS, ROUNDS, SECONDS = 128, 15, 0.02
LAYERS = ((784, 500), (784, 200), (500, 500), (200, 200), (100, 50))


def rate(product: Callable[[], Tensor], operations: float) -> float:
    """Return the operations of a product in a CPU second, by repeating it for a while."""
    started, count = time.process_time(), 0
    while (passed := time.process_time() - started) < SECONDS:
        product()
        count += 1
    return count * operations / passed


def measure(inputs: int, outputs: int) -> dict[str, Any]:
    """Time the three products of a linear layer by both libraries.

    Args:
        inputs: Of the layer.
        outputs: Of the layer.
    """
    x, w = torch.randn(ROWS, inputs), torch.randn(outputs, inputs)
    g = torch.randn(ROWS, outputs)
    operations = 2.0 * ROWS * inputs * outputs
    fast = torch.ops.priory.product
    of = {"forward": (x, w.T), "to inputs": (g, w), "to weights": (g.T, x)}
    found: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "operations": operations}
    for name, (a, b) in of.items():
        both = [functools.partial(product, a, b) for product in (torch.mm, fast)]
        pairs = [[rate(product, operations) for product in both] for _ in range(ROUNDS)]
        found[name] = {
            "usual": statistics.median(p for p, _ in pairs),
            "faster": statistics.median(p for _, p in pairs),
            "ratio": statistics.median(q / p for p, q in pairs),
        }
    return found


def table(result: dict[str, Any]) -> str:
    """Return a result as Markdown."""
    lines = [
        "| layer | forward | gradient to the inputs | to the weights | taken in a step |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        cells = [
            f"{row[name]['usual'] / 1e9:.0f}, {row[name]['faster'] / 1e9:.0f} "
            f"({row[name]['ratio']:.2f})"
            for name in ("forward", "to inputs", "to weights")
        ]
        taken = "yes" if result["slow"] and row["operations"] >= products.LEAST else "no"
        lines.append(f"| {row['inputs']} x {row['outputs']} | {' | '.join(cells)} | {taken} |")
    return "\n".join(
        [
            *lines,
            "",
            f"10^9 operations a CPU second by MKL and by oneDNN, and the median ratio of {ROUNDS} "
            f"rounds by turns; {ROWS} rows, one thread. {kept.place([result])}",
        ]
    )


def main() -> None:
    """Measure all layers, keep the result and write the table."""
    torch.set_num_threads(1)
    products.define()
    rows = [measure(*layer) for layer in LAYERS]
    result = {"rows": rows, "slow": products.library_is_slow(), **kept.circumstances()}
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    pages.write(products=table(result))
    print(table(result))


if __name__ == "__main__":
    main()
