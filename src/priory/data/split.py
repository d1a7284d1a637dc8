"""A split: columns of equal length on one device, served in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

STORED_SEED = 777
"""Seeds every binarisation that is drawn once and kept (validation, test, snapshots)."""

_ORDER, _PIXELS, _STORED = range(3)
_CHUNK = 4096


class Split:
    r"""Columns of equal length on one device, served in batches.

    The order of the rows is a pure function of `(seed, epoch)`. A dynamic split holds greys
    $g \in [0, 1]$ and draws $x \sim \mathrm{Bernoulli}(g)$ anew for every batch; the draw is a pure
    function of `(seed, epoch, batch number)`, so that an epoch can be taken up in its middle.

    Args:
        columns: tensors of shape (rows, *shape) on one device; `x` is required, `index` is added.
        dynamic: whether `x` holds greys that are binarised at every batch.
        stream: number of the split, so that two splits never share their stored binarisation.

    Raises:
        ValueError: if `x` is missing or the columns differ in length.

    Example:
        >>> split = Split({"x": torch.arange(6.0).reshape(3, 2)})
        >>> [tuple(batch["x"].shape) for batch in split.batches(2)]
        [(2, 2), (1, 2)]
    """

    def __init__(
        self, columns: Mapping[str, Tensor], *, dynamic: bool = False, stream: int = 0
    ) -> None:
        if "x" not in columns:
            raise ValueError(f"a split needs a column 'x', got {sorted(columns)}")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must have the same number of rows, got {lengths}")
        self.columns = dict(columns)
        self.columns["index"] = torch.arange(lengths["x"], device=columns["x"].device)
        self.dynamic = dynamic
        self.stream = stream

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shapes = {name: tuple(column.shape) for name, column in self.columns.items()}
        return f"Split({len(self):,} rows, {shapes}{', dynamic' if self.dynamic else ''})"

    @property
    def x(self) -> Tensor:
        """The column `x` as stored, of shape (rows, *shape): greys where the split is dynamic."""
        return self.columns["x"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple(self.x.shape[1:])

    @property
    def device(self) -> torch.device:
        """The device that holds every column."""
        return self.x.device

    def to(self, device: torch.device | str) -> Split:
        """Return the same split with every column on `device`."""
        columns = {name: column.to(device) for name, column in self.columns.items()}
        return Split(columns, dynamic=self.dynamic, stream=self.stream)

    def order(self, *, epoch: int = 0, seed: int = 0) -> Tensor:
        """Return the shuffled row numbers of an epoch: the same on every device.

        Args:
            epoch: number of the epoch, from 0.
            seed: seed of the run, from 0.
        """
        state = np.random.SeedSequence((_ORDER, seed, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        return torch.randperm(len(self), generator=generator).to(self.device)

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        start: int = 0,
    ) -> Iterator[dict[str, Tensor]]:
        """Iterate over the batches of an epoch, each a dict of columns.

        Args:
            size: rows a batch; the last batch is shorter where `size` doesn't divide the rows.
            epoch: number of the epoch, from 0.
            seed: seed of the run, from 0.
            shuffle: whether to serve the rows in the order of `order(epoch=epoch, seed=seed)`.
            drop_last: whether to leave out a last batch that is shorter.
            start: number of the batch to begin with: what follows is what a whole pass would give.

        Raises:
            ValueError: if an argument is out of range, or no full batch exists with `drop_last`.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 row a batch, got {size}")
        for name, number in (("epoch", epoch), ("seed", seed), ("start", start)):
            if number < 0:
                raise ValueError(f"{name} must be 0 or more, got {number}")
        rows = len(self)
        if drop_last and rows < size:
            raise ValueError(
                f"no full batch: size={size} with drop_last=True, but the split has {rows} rows; "
                "use a smaller size or drop_last=False"
            )
        count = rows // size if drop_last else -(-rows // size)
        return self._iterate(size, range(start, count), epoch, seed, shuffle)

    def _iterate(
        self, size: int, numbers: range, epoch: int, seed: int, shuffle: bool
    ) -> Iterator[dict[str, Tensor]]:
        order = self.order(epoch=epoch, seed=seed) if shuffle else None
        for number in numbers:
            window = slice(number * size, (number + 1) * size)
            rows = window if order is None else order[window]
            yield self.take(rows, epoch=epoch, seed=seed, batch=number)

    def take(
        self, rows: slice | Tensor, *, epoch: int = 0, seed: int = 0, batch: int = 0
    ) -> dict[str, Tensor]:
        """Return the given rows of every column, binarised anew where the split is dynamic.

        Args:
            rows: a slice, or row numbers of shape (batch,).
            epoch: number of the epoch; with `seed` and `batch` it decides the draw.
            seed: seed of the run.
            batch: number of the batch within the epoch.
        """
        taken = {
            name: column[rows] if isinstance(rows, slice) else column.index_select(0, rows)
            for name, column in self.columns.items()
        }
        if self.dynamic:
            grey = taken["x"]
            noise = _uniform(grey.shape, (_PIXELS, seed, epoch, batch), grey.device)
            taken["x"] = noise.lt_(grey).to(grey.dtype)
        return taken

    def snapshot(self, n: int | None = None) -> Tensor:
        """Return `x` of the first `n` rows, binarised once by the stored seed if dynamic.

        The draw is the same on every device, in every process and for every `n`: a shorter
        snapshot is the beginning of a longer one.

        Args:
            n: rows wanted, all by default.

        Raises:
            ValueError: if `n` is negative.
        """
        if n is not None and n < 0:
            raise ValueError(f"n must be 0 or more rows, got {n}")
        x = self.x if n is None else self.x[:n]
        return binarise_once(x, self.stream) if self.dynamic else x


def binarise_once(grey: Tensor, stream: int) -> Tensor:
    """Draw Bernoulli pixels with the given greys, once and for all.

    The bits come from PCG64's raw stream, which NumPy promises never to change.

    Args:
        grey: means in [0, 1], of shape (rows, *shape).
        stream: number of the split.

    Returns:
        Zeros and ones of the same shape, dtype and device.
    """
    bits = np.random.PCG64(np.random.SeedSequence((_STORED, STORED_SEED, stream)))
    binary = torch.empty_like(grey)
    for part, out in zip(grey.split(_CHUNK), binary.split(_CHUNK), strict=True):
        noise = _noise(bits, part.shape).to(grey.device)
        torch.lt(noise, part.float(), out=out)
    return binary


def _uniform(shape: torch.Size, key: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform float32 on [0, 1), a pure function of the key on each kind of device."""
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
