"""Sequences of different lengths: drawn from a chain that is known, and observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priory.data.sets import DataSet, Parts
from priory.data.steps import blank
from priory.data.sunspots import FIRST_YEAR, SUNSPOT_NUMBERS

_STEPS = (20, 60)  # the shortest and the longest
_LOADED = 0.1, 0.1, 0.1, 0.1, 0.1, 0.5
_CHANGE = (0.05, 0.1)  # from the fair die, from the loaded one
_AROUND = 4  # years on either side of a minimum, of which none is lower


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
    return {"x": blank(faces, length).astype(np.float32), "length": length}


@dataclass(frozen=True)
class Sunspots(DataSet):
    """The solar cycles from 1712 to 2007, as yearly mean sunspot numbers.

    National Geophysical Data Center, http://www.ngdc.noaa.gov/stp/solar/solarda3.html: the numbers
    of 1700 to 2008, in the public domain. A cycle begins with a year of which none of the four on
    either side is lower, the later of two alike, and ends before the next one begins; the years
    before the first such year are left out. A row `x` has the numbers of the 9 to 14 years of a
    cycle, (14, 1), padded with 0, `length` has how many they are, and `year` the first of them.
    """

    name: str = "sunspots"

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts of the 27 cycles, drawn without replacement.

        Args:
            valid: Validation rows, 4 by default.
            rows: Training rows, the first in time of those left, by default all; the test has 5.
            seed: Of the draw.

        Raises:
            ValueError: No row is left to train on.
        """
        columns = _cycles()
        count = len(columns["x"])
        held = 5 + (4 if valid is None else valid)
        if held >= count:
            raise ValueError(
                f"valid={valid} leaves no training rows: {self.name} has {count - 5}, and 5 for "
                "the test"
            )
        order = np.random.default_rng(seed).permutation(count)
        chosen = {"test": order[:5], "valid": order[5:held], "train": np.sort(order[held:])[:rows]}
        return {
            part: {name: column[index] for name, column in columns.items()}
            for part, index in chosen.items()
        }


def _cycles() -> dict[str, NDArray[Any]]:
    numbers = np.array(SUNSPOT_NUMBERS)
    starts = []
    for i in range(1, len(numbers)):
        around = numbers[max(0, i - _AROUND) : i + _AROUND + 1]
        if numbers[i] == around.min() and numbers[i] not in numbers[i + 1 : i + _AROUND + 1]:
            starts.append(i)
    length = np.diff(starts)
    x = np.zeros((len(length), length.max(), 1), dtype=np.float32)
    for row, (start, years) in enumerate(zip(starts, length, strict=False)):
        x[row, :years, 0] = numbers[start : start + years]
    return {"x": x, "length": length, "year": FIRST_YEAR + np.array(starts[:-1])}


SEQUENCES = (Casino(), Sunspots())
