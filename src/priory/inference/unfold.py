"""A Boltzmann machine of the data as the start of a deep belief network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from priory.data import Data
from priory.inference.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Unfold(Stage):
    r"""A stage at whose end a belief net hangs below the machine that it has trained.

    The machine of the data and the first bits becomes the top of a deep belief network, with its
    layers exchanged, and the net and the guide below take its weights: the network's distribution
    is then the machine's, and its bound is log p(x), so that what follows starts from there.
    Hinton, Osindero and Teh, 2006, A fast learning algorithm for deep belief nets.

    Example:
        >>> from priory.inference import Contrast, Sleep, Unfold, Wake
        >>> from priory.models import DBN
        >>> options = {"objective": Contrast(), "frozen": ("encoder", "decoder")}
        >>> stage = Unfold(name="rbm", **options, lr=0.1, steps=2)
        >>> bits = Data.from_arrays(x=(torch.rand(20, 6) < 0.4).float().numpy())
        >>> run = fit(DBN(3), Wake() + Sleep(detached=True), bits, stages=[stage], steps=1)
        >>> run.history[0]["stage"]
        'rbm'
    """

    def check(self, pair: Any) -> None:
        """Raise unless the pair is a deep belief network.

        Raises:
            ValueError: if it is not.
        """
        super().check(pair)
        if not hasattr(pair, "unfold"):
            raise ValueError(
                f"the stage {self.name} hangs a belief net below a Boltzmann machine, as a DBN has "
                f"one, got {type(pair).__name__}"
            )

    @torch.no_grad()
    def finish(self, pair: Any, data: Data, seed: int) -> dict[str, float]:  # noqa: ARG002
        """Copy the machine's weights into the net and the guide below it."""
        pair.unfold()
        return {}
