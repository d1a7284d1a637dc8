"""The layers of a pair, one after the other, as Boltzmann machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from priory.data import Data
from priory.inference.objectives.contrast import Contrast
from priory.inference.stage import Stage

_ROWS = 4096  # rows at a time


@dataclass(frozen=True, kw_only=True)
class Greedy(Stage):
    r"""A stage that trains the Boltzmann machine of one layer, and gives the pair what it learned.

    The machine sees what the layers below, which had stages before, make of the data. Hinton and
    Salakhutdinov, 2006, Reducing the dimensionality of data with neural networks; of deep Boltzmann
    machines, Salakhutdinov and Hinton, 2009.

    Example:
        >>> from priory.inference import Contrast, Greedy, Reconstruction
        >>> from priory.models import DeepAutoencoder
        >>> nets = ["encoder", "decoder"]
        >>> first = Greedy(
        ...     name="rbm1", objective=Contrast(layer=1), frozen=[*nets, "rbm2"], steps=1
        ... )
        >>> second = Greedy(
        ...     name="rbm2", objective=Contrast(layer=2), frozen=[*nets, "rbm1"], steps=1
        ... )
        >>> x = Data.from_arrays(x=(torch.rand(20, 6) < 0.4).float().numpy())
        >>> pair = DeepAutoencoder(layers=(4,), latent=2)
        >>> own = {"stages": [first, second], "frozen": ["rbm1", "rbm2"], "steps": 1}
        >>> [row.get("stage") for row in fit(pair, Reconstruction(), x, **own).history]
        ['rbm1', 'rbm2', None]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.objective, Contrast) or self.objective.layer is None:
            raise ValueError(
                f"the stage {self.name} trains the machine of a layer: give it "
                f"Contrast(layer=...), got {type(self.objective).__name__}()"
            )

    def check(self, pair: Any) -> None:
        """Raise unless the pair is pre-trained by machines and has that of the layer.

        Raises:
            ValueError: if it is not, or has not.
        """
        super().check(pair)
        if not hasattr(pair, "pretraining"):
            raise ValueError(
                f"the stage {self.name} trains a machine by which a pair is pre-trained, as a "
                f"DeepAutoencoder is, got {type(pair).__name__}"
            )
        pair.machine_of(self._layer)

    @torch.no_grad()
    def finish(self, pair: Any, data: Data, seed: int) -> dict[str, float]:  # noqa: ARG002
        """Give the pair the machine's weights, and start the next machine from there."""
        pair.settle(self._layer, (batch["x"] for batch in data.train.batches(_ROWS)))
        return {}

    @property
    def _layer(self) -> int:
        assert isinstance(self.objective, Contrast)  # noqa: S101
        assert self.objective.layer is not None  # noqa: S101
        return self.objective.layer
