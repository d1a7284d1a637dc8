"""Pairs of domains: a named set beside a transformed one, with the pairing known for the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from priory.data.build import Built
from priory.lookup import named
from priory.registry import registry


def turned(x: Tensor) -> Tensor:
    """Turn images, or points of the plane, by a quarter to the left."""
    if x.dim() == 2 and x.shape[1] == 2:
        return torch.stack([-x[:, 1], x[:, 0]], 1)
    return torch.rot90(_images("turned", x), dims=(-2, -1))


def mirrored(x: Tensor) -> Tensor:
    """Exchange left and right, of images or points of the plane."""
    if x.dim() == 2 and x.shape[1] == 2:
        return x * x.new_tensor([-1.0, 1.0])
    return _images("mirrored", x).flip(-1)


def inverted(x: Tensor) -> Tensor:
    """Exchange black and white."""
    return 1 - _images("inverted", x)


def edges(x: Tensor) -> Tensor:
    """Keep the outlines of strokes: what the largest of its 3 x 3 neighbours has over a pixel."""
    return thick(_images("edges", x)) - x


def thick(x: Tensor) -> Tensor:
    """Give each pixel the largest value of its 3 x 3 neighbours."""
    return max_pool2d(_images("thick", x), 3, stride=1, padding=1)


def _images(name: str, x: Tensor) -> Tensor:
    if x.dim() != 4:
        raise ValueError(f"{name} is for images, got data of shape {tuple(x.shape[1:])}")
    return x


Domain = Callable[[Tensor], Tensor]
DOMAINS: dict[str, Domain] = registry(Domain, (edges, inverted, mirrored, thick, turned))
"""Transformations of a datum into another domain, by name."""


def with_other(built: Built, domain: str) -> Built:
    r"""Return splits with a column `other`, rows of a second domain.

    $$\text{training: } x_{2i}, T(x_{2i+1}); \qquad \text{validation and test: } x_i, T(x_i)$$

    No training row has its counterpart in the other domain: what is learnt, is learnt without
    pairs. Of the others the pairing is known, by the row, so that it can be judged.

    Args:
        built: splits with `x` in memory.
        domain: a name in `DOMAINS`; none for splits as they are.

    Raises:
        ValueError: if there is no such domain, it doesn't suit the data, or there are too few
            training rows.
    """
    if not domain:
        return built
    transform = named("domain", domain, DOMAINS)
    rows = len(built.splits["train"]) // 2
    if not rows:
        raise ValueError("two domains need at least 2 training rows")
    splits = {}
    for part, split in built.splits.items():
        columns = {n: c for n, c in split.columns.items() if n != "index"}
        other = transform(columns["x"])
        if part == "train":
            columns = {n: c[0 : 2 * rows : 2] for n, c in columns.items()}
            other = other[1 : 2 * rows : 2]
        splits[part] = split.like({**columns, "other": other})
    return replace(built, splits=splits)
