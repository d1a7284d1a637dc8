"""A training run's folder: locked, kept up to date, and enough to go on from."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from priory.data import Data
from priory.inference.checkpoints.checkpoint import (
    newest,
    read_checkpoint,
    set_aside,
    write_checkpoint,
)
from priory.inference.checkpoints.disk import MANIFEST, Damaged, manifest, sweep, write_file
from priory.inference.checkpoints.folders import (
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    SNAPSHOTS,
    WEIGHTS,
    Resume,
    check_folder,
    read_finished,
    read_snapshots,
    run_files,
    snapshots_file,
)
from priory.inference.checkpoints.lock import LOCK, locked
from priory.inference.checkpoints.resume import (
    check_request,
    check_schedule,
    check_surroundings,
    environment,
)
from priory.inference.checkpoints.signals import Signals
from priory.inference.checkpoints.weights import check_fit, put, tensors_of
from priory.inference.distributed import ranks
from priory.inference.randomness import random_state, set_random_state
from priory.inference.svi import SVI
from priory.inference.validation import Evaluations

_NOTED = 1.0


class Training(Protocol):
    """What a keeper sees of a training run; see `Loop`, which is one.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on.
        svi: takes the steps.
        total: steps in all.
        evaluations: with the snapshots so far.
        history: a row for each epoch.
    """

    pair: Any
    objective: Any
    data: Data
    svi: SVI
    total: int
    evaluations: Evaluations
    history: list[dict[str, Any]]

    def run(self, listeners: list[Callable[[dict[str, Any]], None]]) -> list[dict[str, Any]]:
        """Train to the end, or until patience is out."""

    def state(self) -> dict[str, Any]:
        """Return where the run stands, as plain values."""

    def train_state(self) -> dict[str, Any]:
        """Return what else a later step depends on."""

    def restore(self, state: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        """Go on from what `state` and `train_state` returned."""


class Keeper:
    """Keeps a run in its folder while it is trained. Made by `keeping`.

    Args:
        folder: the run's.
        signals: what has been asked of the process.
        every: seconds between checkpoints.
        keep: how many stay.
    """

    def __init__(self, folder: Path, signals: Signals, *, every: float, keep: int) -> None:
        self.folder, self.signals, self.every, self.keep = folder, signals, every, keep
        self._config: dict[str, Any] = {}
        self._proven = False
        self._due = time.monotonic() + every
        self._noted = -_NOTED

    def run(
        self,
        loop: Training,
        config: dict[str, Any],
        listeners: list[Callable[[dict[str, Any]], None]],
        *,
        resume: Resume,
        inexact: bool,
    ) -> None:
        """Train a loop to the end, from where the folder's run stands if it is to go on.

        Args:
            loop: the training, ready for its first step.
            config: of the run, as plain values.
            listeners: called with each row of the history.
            resume: whether the folder's run goes on: "auto" if there is one.
            inexact: whether it may go on in other surroundings.

        Raises:
            ValueError: if the folder's run is another one, or damaged.
            FileNotFoundError: if there is nothing to resume from.
        """
        if resume and self._answer(loop, config):
            return
        if resume and not self._restore(loop, config, inexact=inexact) and resume is True:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint to resume from")
        ranks.barrier()  # every rank has read before one writes
        self._begin(loop, config)
        loop.run(listeners)
        self._finish(loop, config)

    def _answer(self, loop: Training, config: dict[str, Any]) -> bool:
        """Give a loop the weights of the finished run, if there is one of the same length."""
        if not (self.folder / MANIFEST).exists():
            return False
        try:
            old, history, weights = read_finished(self.folder)
            snapshots = read_snapshots(self.folder)
        except Damaged as error:
            warnings.warn(f"{error}; falling back on the checkpoints", stacklevel=3)
            return False
        check_request(self.folder, old, config)
        if any(old["fit"][k] != config["fit"][k] for k in ("epochs", "steps")):
            return False
        own = tensors_of(loop.pair, loop.objective, loop.svi.params)
        check_fit(own, weights, self.folder / WEIGHTS)
        put(own, weights)
        loop.history[:] = history
        loop.evaluations.snapshots.taken.update(snapshots)
        if isinstance(loop.pair, nn.Module):
            loop.pair.eval()
        return True

    def _begin(self, loop: Training, config: dict[str, Any]) -> None:
        """Write the configuration, and take off what says that the run is finished."""
        self._config = config
        if not ranks.is_main():
            return
        for name in (MANIFEST, WEIGHTS):
            (self.folder / name).unlink(missing_ok=True)
        files = run_files(config, loop.history, {})
        write_file(self.folder / CONFIG, files[CONFIG])
        write_file(self.folder / HISTORY, files[HISTORY])

    def _restore(self, loop: Training, config: dict[str, Any], *, inexact: bool) -> bool:
        """Put a loop where the newest checkpoint that is whole stands; False without any.

        Raises:
            ValueError: if it is another run's, or was written elsewhere; nothing has changed then.
        """
        found = newest(self.folder / CHECKPOINTS)
        if found is None:
            return False
        state, train, device = found.state, found.train, loop.data.device
        try:
            check_request(found.path, state["config"], config)
            if state["step"] > loop.total:
                raise ValueError(
                    f"{found.path} has {state['step']} steps behind it, and {loop.total} are asked "
                    "for; ask for more, or begin in another folder"
                )
            here = environment(device)
            check_surroundings(found.path, state["environment"], here, inexact=inexact)
            own = tensors_of(loop.pair, loop.objective, loop.svi.params)
            check_fit(own, found.weights, found.path / WEIGHTS)
            set_random_state(train["random"], device, inexact=inexact)
            former = {name: tensor.detach().clone() for name, tensor in own.items()}
            put(own, found.weights)
            try:
                loop.restore(state, train)
            except ValueError:
                put(own, former)
                raise
            loop.evaluations.snapshots.taken.update(self._snapshots(state["snapshots"]))
            set_aside(self.folder / CHECKPOINTS, found.path)
            check_schedule(found.path, state["config"], config, state["step"], loop.total)
        except (KeyError, TypeError) as error:
            raise Damaged(f"{found.path} is no checkpoint of a run: {error!r}") from error
        return True

    def after_step(self, loop: Training) -> None:
        """Save the state if it is time, or the end; and stop if a signal has asked for it."""
        done = loop.svi.steps >= loop.total
        self.signals.share()
        if not (done or self.signals.received or time.monotonic() >= self._due):
            return
        path = self.save(loop) if ranks.is_main() else self.folder
        if self.signals.received:
            ranks.barrier()  # the first rank that ends brings the others down
            self.signals.stop(f"stopped after step {loop.svi.steps:,}; saved in {path}")

    def save(self, loop: Training) -> Path:
        """Write a checkpoint; the first one is read back, so that all are known to load."""
        device = loop.data.device
        train = {**loop.train_state(), "random": random_state(device)}
        state = {**loop.state(), "environment": environment(device), "config": self._config}
        weights = tensors_of(loop.pair, loop.objective, loop.svi.params)
        folder = self.folder / CHECKPOINTS
        path = write_checkpoint(folder, state, train, weights, keep=self.keep)
        if not self._proven:
            read_checkpoint(path)
            self._proven = True
        self._due = time.monotonic() + self.every
        return path

    def note(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the history, at most once a second."""
        if ranks.is_main() and time.monotonic() - self._noted >= _NOTED:
            write_file(self.folder / HISTORY, run_files({}, history, {})[HISTORY])
            self._noted = time.monotonic()

    def note_snapshots(self, snapshots: Mapping[int, Tensor]) -> None:
        """Write all snapshots so far, samples by step, before a checkpoint can count on them."""
        if ranks.is_main():
            write_file(self.folder / SNAPSHOTS, snapshots_file(snapshots))

    def _snapshots(self, steps: Sequence[int]) -> dict[int, Tensor]:
        """Return the snapshots of a checkpoint's past; later ones are drawn again."""
        try:
            found = read_snapshots(self.folder) if steps else {}
        except Damaged as error:
            warnings.warn(f"{error}; going on without it", stacklevel=3)
            return {}
        if lost := [step for step in steps if step not in found]:
            told = f"{self.folder / SNAPSHOTS} has no snapshots of steps {lost}"
            warnings.warn(f"{told}; going on without them", stacklevel=3)
        return {step: found[step] for step in steps if step in found}

    def _finish(self, loop: Training, config: dict[str, Any]) -> None:
        """Write the files of the finished run, and last the manifest that says it is finished."""
        if ranks.is_main():
            tensors = tensors_of(loop.pair, loop.objective, loop.svi.params)
            snapshots = loop.evaluations.snapshots.taken
            files = run_files(config, loop.history, tensors, snapshots)
            for name, content in {**files, MANIFEST: manifest(files)}.items():
                write_file(self.folder / name, content)
        ranks.barrier()
        if self.signals.received:
            self.signals.stop(f"the run is finished; saved in {self.folder}")


@contextmanager
def keeping(
    folder: str | os.PathLike[str],
    *,
    every: float,
    keep: int,
    resume: Resume,
    overwrite: bool,
) -> Iterator[Keeper]:
    """Make and lock a run's folder, and watch for signals, for a while.

    Args:
        folder: the run's.
        every: seconds between checkpoints.
        keep: how many stay.
        resume: whether a run that is there goes on.
        overwrite: whether it is removed.

    Raises:
        OSError: if the folder holds something else, cannot be written, or holds no run to resume.
        FolderInUse: if another run is in it.
    """
    folder = Path(folder)
    check_folder(folder, resume=resume, overwrite=overwrite)
    ranks.barrier()  # every rank has looked before one writes
    if not ranks.is_main():
        with Signals() as signals:
            yield Keeper(folder, signals, every=every, keep=keep)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"cannot make the folder {folder}: {error.strerror}") from error
    with locked(folder), Signals() as signals:
        sweep(folder)
        sweep(folder / CHECKPOINTS)
        if overwrite:
            _clear(folder)
        yield Keeper(folder, signals, every=every, keep=keep)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
