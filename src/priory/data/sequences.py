"""Sequences of different lengths, drawn from a chain that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priory.data.sets import DataSet, Parts

_STEPS = (20, 60)  # the shortest and the longest
_LOADED = 0.1, 0.1, 0.1, 0.1, 0.1, 0.5
_CHANGE = (0.05, 0.1)  # from the fair die, from the loaded one


@dataclass(frozen=True)
class Casino(DataSet):
    """The dishonest casino, of two dice that are exchanged by chance, one of them loaded.

    Durbin, Eddy, Krogh and Mitchison, 1998, Biological sequence analysis: a fair die gives way to
    one that shows a six half of the time with probability 0.05, and comes back with 0.1. A row `x`
    has the faces 0 to 5 of 20 to 60 throws, padded with 0, and `length` has their number.
    """

    name: str = "casino"

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts, drawn independently.

        Args:
            valid: Validation rows, 100 by default.
            rows: Training rows, 500 by default; the test always has 500.
            seed: Of the draws.
        """
        counts = {
            "train": 500 if rows is None else rows,
            "valid": 100 if valid is None else valid,
            "test": 500,
        }
        return {
            part: _throws(count, np.random.default_rng((seed, stream)))
            for stream, (part, count) in enumerate(counts.items())
        }


def _throws(rows: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    short, steps = _STEPS
    length = rng.integers(short, steps + 1, size=rows)
    faces = np.zeros((rows, steps), dtype=np.float32)
    loaded = rng.random(rows) < 0.5
    for t in range(steps):
        fair = rng.integers(6, size=rows)
        faces[:, t] = np.where(loaded, rng.choice(6, size=rows, p=_LOADED), fair)
        loaded ^= rng.random(rows) < np.where(loaded, _CHANGE[1], _CHANGE[0])
    counted = np.arange(steps) < length[:, None]
    return {"x": np.where(counted, faces, 0).astype(np.float32), "length": length}


SEQUENCES = (Casino(),)
