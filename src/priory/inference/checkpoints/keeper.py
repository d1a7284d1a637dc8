"""A training run's folder: locked, kept up to date, and enough to go on from."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from priory.inference.callback import Callback, Training
from priory.inference.card import write_card
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
from priory.inference.options import FitOptions
from priory.inference.randomness import random_state, set_random_state
from priory.inference.run import described

_NOTED = 1.0


class Keeper(Callback):
    """Keeps a run in its folder while it is trained. Made by `keeping`.

    Args:
        folder: the run's.
        signals: what has been asked of the process.
        options: of `fit`.
        objective: what the run is trained by, after its stages.
    """

    def __init__(self, folder: Path, signals: Signals, options: FitOptions, objective: Any) -> None:
        self.folder, self.signals, self.options = folder, signals, options
        self.objective, self._begun = objective, False
        self._config: dict[str, Any] = {}
        self._proven = False
        self._due = time.monotonic() + options.checkpoint_every
        self._noted = -_NOTED

    def begin(self, training: Training) -> bool:
        """Put a training where the folder's run stands, if it is to go on.

        A stage that follows another in the same process begins from a checkpoint of its own.

        Returns:
            Whether that run is finished and of the same length.

        Raises:
            ValueError: if the folder's run is another one, or damaged.
            FileNotFoundError: if there is nothing to resume from.
        """
        resume = False if self._begun else self.options.resume
        self._begun = True
        config = described(training.pair, self.objective, training.data, self.options.config)
        if resume and self._answer(training, config):
            return True
        if resume and not self._restore(training, config) and resume is True:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint to resume from")
        ranks.barrier()  # every rank has read before one writes
        self._begin(training, config)
        if training.stage and not training.svi.steps and ranks.is_main():
            self.save(training)
        return False

    def _answer(self, training: Training, config: dict[str, Any]) -> bool:
        """Give a training the weights of the finished run, if there is one of the same length."""
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
        own = tensors_of(training.pair, training.objective, training.svi.params)
        check_fit(own, weights, self.folder / WEIGHTS)
        put(own, weights)
        training.history[:] = history
        training.snapshots.update(snapshots)
        if isinstance(training.pair, nn.Module):
            training.pair.eval()
        return True

    def _begin(self, training: Training, config: dict[str, Any]) -> None:
        """Write the configuration, and take off what says that the run is finished."""
        self._config = config
        if not ranks.is_main():
            return
        for name in (MANIFEST, WEIGHTS):
            (self.folder / name).unlink(missing_ok=True)
        files = run_files(config, training.history, {})
        write_file(self.folder / CONFIG, files[CONFIG])
        write_file(self.folder / HISTORY, files[HISTORY])

    def _restore(self, training: Training, config: dict[str, Any]) -> bool:
        """Put a training where the newest checkpoint that is whole stands; False without any.

        Raises:
            ValueError: if it is another run's, or was written elsewhere; nothing has changed then.
        """
        found = newest(self.folder / CHECKPOINTS)
        if found is None:
            return False
        state, train, device = found.state, found.train, training.data.device
        try:
            check_request(found.path, state["config"], config)
            behind = state["step"] - state.get("before", 0)
            if behind > training.total:
                raise ValueError(
                    f"{found.path} has {behind} steps behind it, and {training.total} are "
                    "asked for; ask for more, or begin in another folder"
                )
            here = environment(device)
            check_surroundings(found.path, state["environment"], here, inexact=self.options.inexact)
            own = tensors_of(training.pair, training.objective, training.svi.params)
            check_fit(own, found.weights, found.path / WEIGHTS)
            set_random_state(train["random"], device, inexact=self.options.inexact)
            former = {name: tensor.detach().clone() for name, tensor in own.items()}
            put(own, found.weights)
            try:
                training.restore(state, train)
            except ValueError:
                put(own, former)
                raise
            training.snapshots.update(self._snapshots(state["snapshots"]))
            set_aside(self.folder / CHECKPOINTS, found.path)
            check_schedule(found.path, state["config"], config, behind, training.total)
        except (KeyError, TypeError) as error:
            raise Damaged(f"{found.path} is no checkpoint of a run: {error!r}") from error
        return True

    def after_step(self, training: Training) -> None:
        """Save the state if it is time, or the end; and stop if a signal has asked for it."""
        done = training.svi.steps >= training.total
        self.signals.share()
        if not (done or self.signals.received or time.monotonic() >= self._due):
            return
        path = self.save(training) if ranks.is_main() else self.folder
        if self.signals.received:
            ranks.barrier()  # the first rank that ends brings the others down
            self.signals.stop(f"stopped after step {training.svi.steps:,}; saved in {path}")

    def save(self, training: Training) -> Path:
        """Write a checkpoint; the first one is read back, so that all are known to load."""
        device = training.data.device
        train = {**training.train_state(), "random": random_state(device)}
        state = {**training.state(), "environment": environment(device), "config": self._config}
        weights = tensors_of(training.pair, training.objective, training.svi.params)
        folder = self.folder / CHECKPOINTS
        path = write_checkpoint(folder, state, train, weights, keep=self.options.keep)
        if not self._proven:
            read_checkpoint(path)
            self._proven = True
        self._due = time.monotonic() + self.options.checkpoint_every
        training.saved(path)
        return path

    def after_epoch(self, training: Training) -> None:
        """Write the history, at most once a second."""
        if ranks.is_main() and time.monotonic() - self._noted >= _NOTED:
            write_file(self.folder / HISTORY, run_files({}, training.history, {})[HISTORY])
            self._noted = time.monotonic()

    def after_snapshot(self, training: Training) -> None:
        """Write all snapshots so far, samples by step, before a checkpoint can count on them."""
        if ranks.is_main():
            write_file(self.folder / SNAPSHOTS, snapshots_file(training.snapshots))

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

    def finish(self, training: Training) -> None:
        """Write the files of the finished run, and last the manifest that says it is finished."""
        if training.stage < len(self.options.stages):
            return
        if ranks.is_main():
            tensors = tensors_of(training.pair, training.objective, training.svi.params)
            files = run_files(self._config, training.history, tensors, training.snapshots)
            for name, content in {**files, MANIFEST: manifest(files)}.items():
                write_file(self.folder / name, content)
            write_card(self.folder, self._config, training.data, training.history)
        ranks.barrier()
        if self.signals.received:
            self.signals.stop(f"the run is finished; saved in {self.folder}")


def standing(options: FitOptions) -> int:
    """Return the number of the stage in which a run goes on; 0 where none does.

    Args:
        options: of `fit`.
    """
    if options.folder is None or not options.resume or not options.stages:
        return 0
    with warnings.catch_warnings(), suppress(Damaged):  # said again when it is restored
        warnings.simplefilter("ignore")
        found = newest(Path(options.folder) / CHECKPOINTS)
        stage = 0 if found is None else int(found.state.get("stage", 0))
        return min(stage, len(options.stages))
    return 0


@contextmanager
def keeping(options: FitOptions, objective: Any) -> Iterator[Keeper]:
    """Make and lock a run's folder, and watch for signals, for a while.

    Args:
        options: of `fit`, with a folder.
        objective: what the run is trained by, after its stages.

    Raises:
        OSError: if the folder holds something else, cannot be written, or holds no run to resume.
        FolderInUse: if another run is in it.
    """
    folder = Path(options.folder or "")
    check_folder(folder, resume=options.resume, overwrite=options.overwrite)
    ranks.barrier()  # every rank has looked before one writes
    if not ranks.is_main():
        with Signals() as signals:
            yield Keeper(folder, signals, options, objective)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"cannot make the folder {folder}: {error.strerror}") from error
    with locked(folder), Signals() as signals:
        sweep(folder)
        sweep(folder / CHECKPOINTS)
        if options.overwrite:
            _clear(folder)
        yield Keeper(folder, signals, options, objective)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
