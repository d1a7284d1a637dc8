"""What stages share that give a prior its parameters by the training rows' codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyro.distributions import TorchDistribution

from priory.data import Data
from priory.inference.stage import Stage
from priory.nets import Encoder
from priory.posteriors import NormalPosterior

_ROWS = 4096  # rows at a time


@dataclass(frozen=True, kw_only=True)
class StageOfCodes(Stage):
    """A stage at whose end a prior is fitted to the training rows' codes, from several starts.

    Args:
        starts: Of the fit.

    Raises:
        ValueError: There is no start.
    """

    starts: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts < 1:
            raise ValueError(f"starts must be at least 1, got {self.starts}")

    def check_encoder(self, pair: Any) -> None:
        """Raise unless the pair has an encoder of x alone with a normal posterior.

        Args:
            pair: built.

        Raises:
            ValueError: if it has not.
        """
        encoder = getattr(pair, "encoder", None)
        head = getattr(encoder, "head", None)
        if type(encoder) is not Encoder or encoder.point or type(head) is not NormalPosterior:
            raise ValueError(
                f"the stage {self.name} takes the codes of an encoder of x alone, with a normal "
                "posterior; leave posterior and deterministic at their defaults"
            )

    def posteriors(self, pair: Any, data: Data) -> Iterator[TorchDistribution]:
        """Yield q(z | x) of the training rows, block by block."""
        return (pair.encoder(batch["x"]) for batch in data.train.batches(_ROWS))
