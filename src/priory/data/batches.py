"""Batches as a loader or a function of the user's gives them: taken as they come, not held."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from priory.data.build import Built, build
from priory.data.class_names import UNKNOWN, encode, numbered
from priory.data.columns import Arrays, as_array, digest
from priory.data.inputs import batch_of, passes
from priory.data.partition import PARTS, gather
from priory.data.preparation import Preparation
from priory.data.split import LABELLED, WEIGHT, Split
from priory.data.steps import LENGTH, finite_behind, is_padded, with_steps
from priory.data.stream import Batch, ahead

_STREAM = 90  # random
_HEAD = 1 << 26  # bytes of the first rows, which are held


class Source(NamedTuple):
    """Where batches come from, and what a first pass has found of them.

    Attributes:
        given: a loader, an iterable that begins anew each time, or a function that does.
        batches: whole batches of a pass.
        size: rows of each.
        replays: whether a pass comes again as it was, given its seed and number.
    """

    given: Any
    batches: int
    size: int
    replays: bool


class Batches(Split):
    """Training rows that are not held: each epoch is a pass over a source, in its own order.

    The rows that are held are those of the first batches: what a pair is built from, and what is
    looked at of training rows. `len` counts the rows of a pass.

    Args:
        head: columns of the first rows.
        source: where the others come from.
        preparation: what is done to each batch.
        device: where batches are served; where the head is, by default.
    """

    def __init__(
        self,
        head: Mapping[str, Any],
        source: Source,
        preparation: Preparation,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(head, device=device, preparation=preparation)
        self.source = source

    def __len__(self) -> int:
        return self.source.batches * self.source.size

    @property
    def head(self) -> Split:
        """The first rows, which are held."""
        return Split(self.columns, device=self.device, preparation=self.preparation)

    @property
    def streamed(self) -> bool:
        """True: batches are sent to the device one by one."""
        return True

    def to(self, device: torch.device | str) -> Batches:
        """Return the same batches on a device."""
        head = {name: column.to(device) for name, column in self.columns.items()}
        assert self.preparation is not None  # noqa: S101
        return Batches(head, self.source, self.preparation, device)

    def resident(self, limit: int = 1 << 30) -> Split:  # noqa: ARG002
        """Return the rows that are held, as a split."""
        return self.head

    def resident_rows(self, limit: int = 1 << 30) -> None:
        """Return None: a row's place in a pass is no number of it."""

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,  # noqa: ARG002
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:
        """Iterate over the batches of a pass as they come; without `shuffle`, of the first one.

        The source's own draws are from generators that `seed` and `epoch` decide alone, so that a
        pass is taken up in its middle by reading it from its beginning.

        Args:
            size: rows a batch, those of the source; without `shuffle` it has no effect.
            epoch: number of the pass, from 0.
            seed: seed of the run.
            shuffle: whether to make the pass of this epoch and seed, as for training.
            drop_last: without effect: a shorter last batch is left out.
            start: number of the batch to begin with.
            shard: rank and number of ranks, which share each batch.

        Raises:
            ValueError: if the size is another one, a pass cannot be taken up or shared, or a batch
                cannot be prepared as the first ones were.
        """
        source = self.source
        epoch, seed = (epoch, seed) if shuffle else (0, 0)
        if shuffle and size != source.size:
            raise ValueError(
                f"batches of {source.size} rows are taken as they come, got batch_size={size}: "
                "leave it out, or set it where the batches are made"
            )
        if (start or shard[1] > 1) and not source.replays:
            raise ValueError(
                "the batches come otherwise each time, so that a run on them is not taken up again "
                "and not shared by ranks: give their source a seed, or rows that are held"
            )
        served = self._served(seed, epoch, start, shard)
        return ahead(served, self.device) if self.device.type == "cuda" else served

    def _served(self, seed: int, epoch: int, start: int, shard: tuple[int, int]) -> Iterator[Batch]:
        (rank, world), number = shard, -1
        assert self.preparation is not None  # noqa: S101
        for number, arrays in enumerate(pass_over(self.source.given, seed, epoch)):
            if number == self.source.batches:
                return
            rows = len(arrays["x"])
            if rows != self.source.size:
                raise ValueError(
                    f"batch {number} of pass {epoch} has {rows} rows, all others {self.source.size}"
                )
            if number < start:
                continue
            try:
                columns = self.preparation.columns(arrays)
            except ValueError as error:
                raise ValueError(f"batch {number} of pass {epoch}: {error}") from error
            if self.preparation.classes and bool((columns["y"] == UNKNOWN).any()):
                raise ValueError(f"batch {number} of pass {epoch} has an unknown label")
            cuts = [rows * r // world for r in (rank, rank + 1)]
            yield {name: column[slice(*cuts)] for name, column in columns.items()}
        if number + 1 < self.source.batches:
            raise ValueError(
                f"pass {epoch} has {number + 1} batches, and the first had {self.source.batches}: "
                "an iterable must begin anew each time; give a function that makes it"
            )


def pass_over(given: Any, seed: int, epoch: int) -> Iterator[Arrays]:
    """Return one pass over a source, each batch as arrays by name.

    Args:
        given: as `Source` has it.
        seed: of the source's draws.
        epoch: number of the pass.
    """
    noise = _Noise(seed, epoch)
    with noise.own():
        _seed_loader(given, noise.seed)
        batches = passes(given)
    for number in itertools.count():
        with noise.own():
            item = next(batches, None)
        if item is None:
            return
        columns = finite_behind(batch_of(item, f"batch {number}"))
        try:
            yield {name: as_array(name, value) for name, value in columns.items()}
        except ValueError as error:
            raise ValueError(f"batch {number}: {error}") from error


class _Noise:
    """The global random states while a source draws: those of its pass, apart from all others."""

    def __init__(self, seed: int, epoch: int) -> None:
        self.seed = int(np.random.SeedSequence((_STREAM, seed, epoch)).generate_state(1)[0])
        with self._kept():
            torch.default_generator.manual_seed(self.seed)
            np.random.seed(self.seed)  # noqa: NPY002
            random.seed(self.seed)
            self.states = _states()

    @contextmanager
    def own(self) -> Iterator[None]:
        """Let the source draw from its own states for a while."""
        with self._kept():
            _set_states(self.states)
            try:
                yield
            finally:
                self.states = _states()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        held = _states()
        try:
            yield
        finally:
            _set_states(held)


def _states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _set_states(states: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


def _seed_loader(given: Any, seed: int) -> None:
    """Seed the generators that a loader and its samplers have of their own."""
    for part in ("sampler", "batch_sampler"):
        owner = getattr(given, part, None)
        for held in (given, owner, getattr(owner, "sampler", None)):
            if isinstance(found := getattr(held, "generator", None), torch.Generator):
                found.manual_seed(seed)


def open_batches(
    given: Any, parts: Mapping[str, Arrays], *, binarise: str, pass_batches: int | None = None
) -> tuple[Built, str]:
    """Pass over a source once, checking every value, and return its splits and a digest.

    Args:
        given: a loader, an iterable that begins anew each time, or a function that makes one.
        parts: columns of the validation and the test rows; none of a part that there is not.
        binarise: "threshold" or "none".
        pass_batches: batches of a pass, where the source has no end, or fewer are wanted.

    Raises:
        ValueError: if a value is NaN or infinite, or batches differ in columns, shapes or rows.
    """
    sampler = getattr(given, "sampler", None)
    if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
        raise ValueError(
            "the loader's DistributedSampler gives each rank other rows; leave it out: ranks share "
            "each batch"
        )
    found = _Found()
    for arrays in itertools.islice(pass_over(given, 0, 0), pass_batches):
        found.add(arrays)
    head, classes = found.head()
    again = next(pass_over(given, 0, 0), None)
    replays = again is not None and digest(again) == found.first
    replays = replays and not (isinstance(given, DataLoader) and given.persistent_workers)
    sets: dict[str, Any] = {part: dict(parts.get(part, {})) for part in PARTS} | {"train": head}
    if classes:
        for part in PARTS[1:]:
            if sets[part]:
                sets[part]["y"] = numbered(sets[part]["y"], classes, False)
    flat = {f"{n}_{part}": a for part in PARTS for n, a in sets[part].items()}
    sets = gather({n.removesuffix("_train"): a for n, a in flat.items()})
    for part in PARTS[1:]:
        if not sets[part]:
            sets[part] = {name: array[:0] for name, array in head.items()}
    built = build(sets, binarise=binarise, standardise=False, classes=classes)
    kept = built.preparation
    source = Source(given, found.batches, found.size, replays)
    train = Batches(
        {n: c for n, c in built.splits["train"].columns.items() if n != "index"}, source, kept
    )
    note = f"batches of {source.size} as they come" + ("" if replays else ", never the same")
    splits = {**built.splits, "train": train}
    return replace(built, splits=splits, notes=(*built.notes, note)), found.sha.hexdigest()


class _Found:
    """What a first pass finds: rows, sizes, labels, and the first rows themselves."""

    def __init__(self) -> None:
        self.batches = self.size = self.taken = self.steps = 0
        self.first, self.sha = "", sha256()
        self.held: list[Arrays] = []
        self.labels: NDArray[Any] | None = None
        self.short = self.bright = False

    def add(self, arrays: Arrays) -> None:
        """Take down a batch.

        Raises:
            ValueError: if it differs from those before.
        """
        rows, number = len(arrays["x"]), self.batches + self.short
        if self.short or (self.batches and rows > self.size):
            raise ValueError(
                f"batch {number} has {rows} rows, the first {self.size}: give batches of one size; "
                "only the last of a pass may be shorter, and is left out"
            )
        self._check(arrays, number)
        if number and rows < self.size:
            self.short = True
            return
        self.batches, self.size = number + 1, rows
        self.first = self.first or digest(arrays)
        self.sha.update(digest(arrays).encode())
        if "y" in arrays:
            own = np.unique(arrays["y"])
            self.labels = own if self.labels is None else np.union1d(self.labels, own)
        above = arrays["x"].dtype == np.uint8 and arrays["x"].max() > 1
        if self.taken < _HEAD or (above and not self.bright):
            self.held.append(arrays)
            self.taken += sum(array.nbytes for array in arrays.values())
        self.bright |= bool(above)

    def _check(self, arrays: Arrays, number: int) -> None:
        rows, x = len(arrays["x"]), arrays["x"]
        for name in (WEIGHT, LABELLED, "index"):
            if name in arrays:
                raise ValueError(f"batches that are not held have no column {name!r}: leave it out")
        if lengths := {n: len(a) for n, a in arrays.items() if len(a) != rows}:
            raise ValueError(f"batch {number} has {rows} rows of x, and others: {lengths}")
        padded = is_padded({"train": arrays})
        self.steps = max(self.steps, x.shape[1]) if padded else 0
        first = self.held[0] if self.held else arrays
        if arrays.keys() != first.keys():
            raise ValueError(f"batch {number} has {sorted(arrays)}, the first {sorted(first)}")
        for name, array in arrays.items():
            cut = 2 if padded and name == "x" else 1
            if array.shape[cut:] != first[name].shape[cut:] or array.ndim != first[name].ndim:
                raise ValueError(
                    f"{name!r} of batch {number} has rows of shape {array.shape[1:]}, expected "
                    f"{first[name].shape[1:]} as in the first batch"
                )
            if array.dtype.kind in "US" and name != "y":
                raise ValueError(f"column {name!r} holds text; only labels 'y' may")

    def head(self) -> tuple[Arrays, tuple[str, ...]]:
        """Return the rows that are held, with the numbers of their classes, and the classes.

        Raises:
            ValueError: if there are none, or a label is unknown.
        """
        if not self.held:
            raise ValueError("there is no batch; an iterable must begin anew each time it is read")
        if self.steps:
            for own in self.held:
                own["x"] = with_steps(own["x"], own[LENGTH], self.steps)
        head = {n: np.concatenate([own[n] for own in self.held]) for n in self.held[0]}
        if self.labels is None:
            return head, ()
        numbers, classes = encode(self.labels, None)
        if (numbers == UNKNOWN).any():
            raise ValueError(
                "batches that are not held need every label, and some are unknown: leave y out"
            )
        return {**head, "y": numbered(head["y"], classes, False)}, classes
