"""A split: columns of equal length, served in batches on one device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.data.mapped import Mapped
from priory.data.pixels import ORDER, PIXELS, binarise_once, uniform
from priory.data.preparation import Preparation
from priory.data.stream import Batch, ahead, fits

Column = Tensor | Mapped
LABELLED = "labelled"
WEIGHT = "weight"  # the column of the rows\' weights
"""The column that says whose labels may be seen."""

SHARE = 0.25
"""Labelled rows make up this share of a training order at least."""


class _Window(NamedTuple):
    """The place of a batch in an epoch, and who shares it."""

    number: int
    start: int
    stop: int
    rank: int
    world: int

    @property
    def own(self) -> slice:
        """The rank's own rows."""
        rows = self.stop - self.start
        cuts = [self.start + rows * r // self.world for r in (self.rank, self.rank + 1)]
        return slice(*cuts)


class Split:
    r"""Columns of equal length, served in batches on one device.

    The order of the rows is a pure function of `(seed, epoch)`. A dynamic split holds grey levels
    $g \in [0, 1]$ and draws $x \sim \mathrm{Bernoulli}(g)$ anew for every batch; the draw is a pure
    function of `(seed, epoch, batch number)`, so that an epoch can be taken up in its middle.

    Where a column `labelled` is true of few rows, the order brings these again and again in place
    of others, so that they are a quarter of it.

    Columns that the device has no room for stay where they are, in memory or in a mapped file, and
    their batches are sent to it one ahead; the batches are the same.

    Args:
        columns: tensors of shape (rows, *shape) on one device; `x` is required, `index` is added.
        dynamic: whether `x` holds grey levels that are binarised at every batch.
        stream: number of the split, so that two splits never share their stored binarisation.
        device: where batches are served; where the columns are, by default.
        preparation: what was done to the rows, where that is known.

    Raises:
        ValueError: if `x` is missing or the columns differ in length.

    Example:
        >>> split = Split({"x": torch.arange(6.0).reshape(3, 2)})
        >>> [tuple(batch["x"].shape) for batch in split.batches(2)]
        [(2, 2), (1, 2)]
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        *,
        dynamic: bool = False,
        stream: int = 0,
        device: torch.device | str | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        if "x" not in columns:
            raise ValueError(f"a split needs a column 'x', got {sorted(columns)}")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must have the same number of rows, got {lengths}")
        self.columns: dict[str, Any] = dict(columns)
        self.columns["index"] = torch.arange(lengths["x"], device=columns["x"].device)
        self.dynamic = dynamic
        self.stream = stream
        self.device = columns["x"].device if device is None else torch.device(device)
        self.preparation = preparation

    def __len__(self) -> int:
        return len(self.columns["x"])

    def __repr__(self) -> str:
        shapes = {name: tuple(column.shape) for name, column in self.columns.items()}
        return f"Split({len(self):,} rows, {shapes}{', dynamic' if self.dynamic else ''})"

    @property
    def x(self) -> Tensor:
        """The column `x` as stored, of shape (rows, *shape); grey levels if it is dynamic."""
        x: Tensor = self.columns["x"]
        return x

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple(self.columns["x"].shape[1:])

    @property
    def streamed(self) -> bool:
        """Whether batches are sent to the device one by one, or read from a mapped file."""
        return isinstance(self.columns["x"], Mapped) or self.columns["x"].device != self.device

    @property
    def nbytes(self) -> int:
        """Bytes that all columns take as tensors."""
        return sum(column.nbytes for column in self.columns.values())

    def to(self, device: torch.device | str) -> Split:
        """Return the same split on a device: its columns if they fit, else its batches.

        A mapped column moves to a CUDA device that has room for it, and stays in its file else.
        """
        target = torch.empty(0, device=device).device  # with the number of the current device
        stay = not fits(self.nbytes, target)
        stay |= isinstance(self.columns["x"], Mapped) and target.type != "cuda"
        columns = self.columns if stay else {n: c.to(target) for n, c in self.columns.items()}
        return self.like(columns, device=target)

    def like(
        self, columns: Mapping[str, Column], device: torch.device | str | None = None
    ) -> Split:
        """Return a split of other columns, served and prepared as these are.

        Args:
            columns: as for a new split.
            device: likewise.
        """
        return Split(
            columns,
            dynamic=self.dynamic,
            stream=self.stream,
            device=device,
            preparation=self.preparation,
        )

    def resident(self, limit: int = 1 << 30) -> Split:
        """Return a split in memory: this one, or evenly spaced rows of one in a mapped file.

        Args:
            limit: bytes that the rows may take.
        """
        index = self.resident_rows(limit)
        if index is self.columns["index"]:
            return self
        columns = {name: column[index] for name, column in self.columns.items()}
        columns.pop("index")
        return self.like(columns)

    def resident_rows(self, limit: int = 1 << 30) -> Tensor | None:
        """Return the numbers of the rows that `resident` returns; None where rows have none.

        Args:
            limit: as there.
        """
        index: Tensor = self.columns["index"]
        if not isinstance(self.columns["x"], Mapped):
            return index
        rows = max(1, min(len(self), limit * len(self) // max(1, self.nbytes)))
        return torch.linspace(0, len(self) - 1, rows, dtype=torch.float64).round().long()

    def order(self, *, epoch: int = 0, seed: int = 0) -> Tensor:
        """Return the shuffled row numbers of an epoch: the same on every device.

        Args:
            epoch: number of the epoch, from 0.
            seed: seed of the run, from 0.
        """
        state = np.random.SeedSequence((ORDER, seed, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order = torch.randperm(len(self), generator=generator)
        if LABELLED in self.columns:
            order = _favoured(order, self.columns[LABELLED].cpu().bool(), generator)
        return order.to(self.columns["x"].device)

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:
        """Iterate over the batches of an epoch, each a dict of columns.

        Of several ranks each gets its own rows of every batch, in the batch's order: side by side
        they are the batch that one rank alone gets, pixels drawn anew included. A last batch that
        is shorter is cut as evenly as it can be, into empty parts too if it has too few rows.

        Args:
            size: rows a batch; the last batch is shorter where `size` doesn't divide the rows.
            epoch: number of the epoch, from 0.
            seed: seed of the run, from 0.
            shuffle: whether to serve the rows in the order of `order(epoch=epoch, seed=seed)`.
            drop_last: whether to leave out a last batch that is shorter.
            start: number of the batch to begin with: what follows is what a whole pass would give.
            shard: rank and number of ranks; `size` is that of the batch that they share.

        Raises:
            ValueError: if an argument is out of range, no full batch exists with `drop_last`, or
                the ranks can't share a batch equally.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 row a batch, got {size}")
        for name, number in (("epoch", epoch), ("seed", seed), ("start", start)):
            if number < 0:
                raise ValueError(f"{name} must be 0 or more, got {number}")
        rank, world = shard
        if not 0 <= rank < world or size % world:
            raise ValueError(
                f"shard must be a rank and a number of ranks that divides the batch of {size} "
                f"rows, got {shard}; use a size that is a multiple of {max(1, world)}"
            )
        rows = len(self)
        if drop_last and rows < size:
            raise ValueError(
                f"no full batch: size={size} with drop_last=True, but the split has {rows} rows; "
                "use a smaller size or drop_last=False"
            )
        count = rows // size if drop_last else -(-rows // size)
        order = self.order(epoch=epoch, seed=seed) if shuffle else None
        windows = [
            _Window(n, n * size, min((n + 1) * size, rows), *shard) for n in range(start, count)
        ]
        return self._serve(windows, order, (seed, epoch))

    def _serve(
        self, windows: list[_Window], order: Tensor | None, key: tuple[int, int]
    ) -> Iterator[dict[str, Tensor]]:
        served: Iterable[Batch] = (
            self._rows(w.own if order is None else order[w.own]) for w in windows
        )
        if self.columns["x"].device != self.device:
            served = ahead(served, self.device)
        for window, batch in zip(windows, served, strict=True):
            yield self._drawn(batch, (*key, window.number), window)

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
        taken = {name: column.to(self.device) for name, column in self._rows(rows).items()}
        return self._drawn(taken, (seed, epoch, batch))

    def _rows(self, rows: slice | Tensor) -> dict[str, Tensor]:
        return {
            name: column.index_select(0, rows)
            if isinstance(column, Tensor) and isinstance(rows, Tensor)
            else column[rows]
            for name, column in self.columns.items()
        }

    def _drawn(
        self, batch: dict[str, Tensor], key: tuple[int, int, int], window: _Window | None = None
    ) -> dict[str, Tensor]:
        """Draw the pixels of a batch, or of one rank's part of it: as they are in the whole."""
        if self.dynamic:
            grey = batch["x"]
            whole = len(grey) if window is None else window.stop - window.start
            noise = uniform(torch.Size((whole, *grey.shape[1:])), (PIXELS, *key), grey.device)
            if window is not None:
                own = window.own
                noise = noise[own.start - window.start : own.stop - window.start]
            batch["x"] = noise.lt_(grey).to(grey.dtype)
        return batch

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
        x = self.columns["x"][:n]
        return binarise_once(x, self.stream) if self.dynamic else x


def _favoured(order: Tensor, labelled: Tensor, generator: torch.Generator) -> Tensor:
    """Put labelled rows in the place of others, until they are a share of the order."""
    rows = labelled.nonzero().flatten()
    lacking = round(SHARE * len(order)) - len(rows)
    if lacking <= 0 or not len(rows):
        return order
    others = (~labelled[order]).nonzero().flatten()
    places = others[torch.randperm(len(others), generator=generator)[:lacking]]
    rounds = -(-lacking // len(rows))
    again = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)]
    order[places] = torch.cat(again)[:lacking]
    return order
