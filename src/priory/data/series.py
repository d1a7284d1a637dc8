"""A series that was observed: a row for each time, with the column `t`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from priory.data.sets import DataSet, Parts
from priory.data.sunspots import FIRST_YEAR, SUNSPOT_NUMBERS

_TEST = 60


@dataclass(frozen=True)
class SunspotYears(DataSet):
    """The yearly mean sunspot numbers of 1700 to 2008, a row for each year.

    National Geophysical Data Center, http://www.ngdc.noaa.gov/stp/solar/solarda3.html, in the
    public domain. A row `x` has the square root of the year's number, (1,), whose spread is much
    the same at all heights of a cycle, and `t` is the year. Years are held out at random.
    """

    name: str = "sunspot-years"

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts of the 309 years, drawn without replacement.

        Args:
            valid: Validation rows, 40 by default.
            rows: Training rows, the first in time of those left, by default all; the test has 60.
            seed: Of the draw.

        Raises:
            ValueError: No row is left to train on.
        """
        numbers = np.array(SUNSPOT_NUMBERS)
        count, held = len(numbers), _TEST + (40 if valid is None else valid)
        if held >= count:
            raise ValueError(
                f"valid={valid} leaves no training rows: {self.name} has {count - _TEST}, and "
                f"{_TEST} for the test"
            )
        order = np.random.default_rng(seed).permutation(count)
        chosen = {
            "train": np.sort(order[held:])[:rows],
            "valid": order[_TEST:held],
            "test": order[:_TEST],
        }
        x = np.sqrt(numbers).astype(np.float32)[:, None]
        return {part: {"x": x[index], "t": FIRST_YEAR + index} for part, index in chosen.items()}


SERIES = (SunspotYears(),)
