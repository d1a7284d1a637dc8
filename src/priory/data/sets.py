"""What every named data set is: a row with its name, and how its parts are had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from priory.data.columns import Arrays

Parts = dict[str, Arrays]


class DataSet(ABC):
    """A named data set; `priory.registry.register` adds one of one's own.

    Attributes:
        name: By which it is asked for.
        binarise: What `binarise="auto"` means.
        labels: Names of the classes, where they aren't their numbers.
        density: The true density, where it is known, with a method `log_prob`.
    """

    name: str
    binarise: str = "none"
    labels: tuple[str, ...] = ()
    density: Any = None

    @abstractmethod
    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the columns of the three parts, "train", "valid" and "test".

        Args:
            valid: Validation rows, the set's own number by default.
            rows: Training rows, likewise.
            seed: Of what is drawn.
        """
