"""Random pixels: drawn once and for all, or anew for each batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STORED_SEED = 777
"""Seeds every binarisation that is drawn once and kept (validation, test, snapshots)."""

ORDER, PIXELS, STORED = range(3)
"""Kinds of draws: each has random streams of its own."""

_CHUNK = 4096


def binarise_once(grey: Tensor, stream: int) -> Tensor:
    """Draw Bernoulli pixels with the given grey levels, once and for all.

    The bits come from PCG64's raw stream, which NumPy promises never to change.

    Args:
        grey: means in [0, 1], of shape (rows, *shape).
        stream: number of the split.

    Returns:
        Zeros and ones of the same shape, dtype and device.
    """
    bits = np.random.PCG64(np.random.SeedSequence((STORED, STORED_SEED, stream)))
    binary = torch.empty_like(grey)
    for part, out in zip(grey.split(_CHUNK), binary.split(_CHUNK), strict=True):
        noise = _noise(bits, part.shape).to(grey.device)
        torch.lt(noise, part.float(), out=out)
    return binary


def uniform(shape: torch.Size, key: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw uniform float32 on [0, 1), a pure function of the key on each kind of device."""
    sequence = np.random.SeedSequence(key)
    if device.type == "cpu":
        return _noise(np.random.SFC64(sequence), shape)
    state = int(sequence.generate_state(1, np.uint64)[0])
    return torch.rand(shape, generator=torch.Generator(device).manual_seed(state), device=device)


def _noise(bits: np.random.SFC64 | np.random.PCG64, shape: torch.Size) -> Tensor:
    """Uniform float32 on [0, 1), in a third of the time of torch.rand on one core.

    Random bits become the 23 bits of the mantissa of a number in [1, 2), in place.
    """
    count = shape.numel()
    words = bits.random_raw(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]
    words >>= np.uint32(9)
    words |= np.uint32(0x3F800000)
    noise = words.view("<f4")
    noise -= np.float32(1)
    return torch.from_numpy(noise).view(shape)
