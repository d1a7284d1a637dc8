"""What a pair learns of a table's columns before it is built: their names and their levels."""

from __future__ import annotations

from typing import Any

from torch import nn

from priory.data import Data, Preparation
from priory.likelihoods import Columns
from priory.likelihoods.columns import shown
from priory.nets import Decoder


def meet(pair: Any, preparation: Preparation) -> None:
    """Let a pair's decoders know what the columns are called, and which hold categories.

    Two programs alone get the numbers of the levels, and may make of them what they like.

    Args:
        pair: a pair that is not built yet; one that is built knows them.
        preparation: of the training rows.

    Raises:
        ValueError: if a column holds categories, and the pair or its likelihood is of numbers.
    """
    if len(preparation.shape) != 1 or not hasattr(pair, "build"):
        return
    levels = preparation.levels
    names = preparation.features or tuple(f"x_{i}" for i in range(preparation.shape[0]))
    decoders = _decoders(pair)
    for decoder in decoders:
        decoder.meet(names, levels)
    if levels and not decoders:
        name = next(name for name, own in zip(names, levels, strict=True) if own)
        raise ValueError(
            f"{type(pair).__name__} is of numbers, and column {name!r} holds categories: leave it "
            "out, or take a pair with a likelihood for each column, such as VAE or MaskedVAE"
        )


def lines(pair: Any, data: Data) -> list[str]:
    """Return the columns of each likelihood, a line for each; none of a pair with one for all.

    Args:
        pair: the pair, built or not.
        data: what it is trained on.

    Raises:
        ValueError: as for `meet`, or if there is no column of a name that is given.
    """
    meet(pair, data.preparation)
    heads = [d.likelihood for d in _decoders(pair) if isinstance(d.likelihood, Columns)]
    x = data.train.resident().snapshot() if heads else data.train.x
    return [line for head in heads for line in shown(head.chosen(x))]


def _decoders(pair: Any) -> list[Decoder]:
    """Return a pair's decoders."""
    parts = pair.modules() if isinstance(pair, nn.Module) else ()
    return [part for part in parts if isinstance(part, Decoder)]
