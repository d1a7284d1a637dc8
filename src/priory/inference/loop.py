"""The loop over epochs: steps, evaluations, the weights that a run ends with."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from priory.data import Data, Feed
from priory.inference.callback import Callback
from priory.inference.diagnosis import Batch, explained, explained_memory, is_out_of_memory
from priory.inference.distributed import ranks
from priory.inference.engine.guard import NonFinite
from priory.inference.objectives.base import Objective
from priory.inference.options import FitOptions
from priory.inference.phases.phases import Phases
from priory.inference.support import check_rows
from priory.inference.svi import SVI
from priory.inference.validation import Evaluations
from priory.priors.training_rows import numbered

GRADIENT_STEPS = 3
_LOOKED_AT = 1 << 27  # bytes of a mapped split of which rows are looked at


class Loop:
    """The state of one training run: what an epoch needs, and what a checkpoint keeps.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on.
        svi: takes the steps.
        total: steps in all.
        size: rows a step.
        options: of `fit`.
        callbacks: called at each turn of the loop, in this order.
        log: gets a message of what goes wrong.

    Attributes:
        answered: whether the run turned out to be finished before the first step.
        config: of the whole run, as plain values, for its callbacks.
    """

    def __init__(
        self,
        pair: Any,
        objective: Any,
        data: Data,
        svi: SVI,
        total: int,
        size: int,
        options: FitOptions,
        callbacks: Sequence[Callback],
        log: Callable[[str], object],
    ) -> None:
        self.pair, self.objective, self.data, self.svi = pair, objective, data, svi
        self.total, self.size, self.options, self.callbacks = total, size, options, callbacks
        self.epoch = self.batch = 0
        self.stage = self.before = 0
        self.name, self.answered = "", False
        self.loss: Any = 0.0
        self.counted: Any = 0
        self.evaluations = Evaluations(pair, objective, data, svi, options, log)
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.random: Tensor | None = None
        self.feed: Feed | None = None
        self._former: tuple[int, float] | None = None  # last step before a resume, and its rate
        self._started = time.perf_counter()

    def follow(self, stage: int, history: Sequence[Mapping[str, Any]], name: str) -> None:
        """Take up steps, epochs and seconds where the stages before have ended.

        Args:
            stage: this training's number among the run's, from 0.
            history: the rows before its own.
            name: by which its own rows are called; not at all if it is empty.
        """
        self.stage, self.name, self.history = stage, name, [dict(row) for row in history]
        if history:
            self.before, self.epoch = history[-1]["step"], history[-1]["epoch"]
            self.evaluations.before = self.before
            self._started = time.perf_counter() - history[-1]["seconds"]

    def prepare(self) -> None:
        """Look at the pair by the first batch, and at all rows; register every parameter."""
        train_mode(self.pair, self.objective)
        batch = next(self.batches(0))
        self.svi.prepare(**batch)
        if self.options.check and isinstance(self.objective, Objective):
            self._look(batch)

    def _look(self, batch: Batch) -> None:
        """Raise if a row that is trained or validated on is outside of a likelihood's support."""
        programs = self.svi.model, self.svi.guide
        if not self.objective.needs_awake(Phases(*programs, columns=batch)):
            return
        for what, split in {"training": self.data.train, "validation": self.data.valid}.items():
            if len(split) and not split.dynamic:  # what is drawn is binary
                columns = split.resident(_LOOKED_AT).columns
                here = {name: value.to(self.data.device) for name, value in columns.items()}
                check_rows(*programs, here, f"the {what} rows")

    def run(self) -> None:
        """Train to the end, or until patience is out, unless a callback has the finished run."""
        self.answered = any(callback.begin(self) for callback in self.callbacks)
        if self.answered:
            return
        if self.svi.steps == 0:
            self.evaluations.begin()
            self._snapshot(last=False)
        stop = False
        while not stop:
            self._epoch()
            row = self._row()
            out = self.evaluations.out_of_patience(row)
            stop = out or self.svi.steps >= self.total
            self.history.append(row)
            self.epoch, self.batch, self.loss, self.counted = self.epoch + 1, 0, 0.0, 0
            self._snapshot(last=stop)
            for callback in self.callbacks:
                callback.after_epoch(self)
        self.evaluations.finish()
        for callback in self.callbacks:
            callback.finish(self)

    @property
    def snapshots(self) -> dict[int, Tensor]:
        """Samples by the step at which they were drawn."""
        return self.evaluations.snapshots.taken

    def saved(self, path: Path) -> None:
        """Let every callback know of a checkpoint.

        Args:
            path: its folder.
        """
        for callback in self.callbacks:
            callback.after_checkpoint(self, path)

    def pause(self, seconds: float) -> None:
        """Leave time out of the run's seconds.

        Args:
            seconds: That something else has taken.
        """
        self._started += seconds

    def state(self) -> dict[str, Any]:
        """Return where the run stands, as plain values; of snapshots, the steps."""
        return {
            "step": self.before + self.svi.steps,
            "stage": self.stage,
            "before": self.before,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": time.perf_counter() - self._started,
            "history": self.history,
            "rate": self._rate(),
            **self.evaluations.state(),
        }

    def train_state(self) -> dict[str, Any]:
        """Return what else a later step depends on, apart from weights and random states."""
        return {
            "svi": self.svi.state_dict(),
            "loss": self.loss,
            "counted": self.counted,
            "best": self.evaluations.best,
            "terms": [term.state_dict() for term in stateful(self.objective)],
        }

    def restore(self, state: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        """Go on from what `state` and `train_state` returned.

        Raises:
            ValueError: if they are another training's; nothing has changed then.
        """
        terms = [*stateful(self.objective)]
        if len(terms) != len(train["terms"]):
            raise ValueError(
                f"the objective has {len(terms)} terms with a state, not {len(train['terms'])}"
            )
        self.evaluations.restore(state, train["best"])
        self.svi.load_state_dict(train["svi"])
        for term, own in zip(terms, train["terms"], strict=True):
            term.load_state_dict(own)
        self.epoch, self.batch, self.counted = state["epoch"], state["batch"], train["counted"]
        self.before = self.evaluations.before = state.get("before", 0)
        if "rate" in state:
            self._former = state["step"] - self.before, state["rate"]
        device = self.data.device
        loss = train["loss"]
        self.loss = loss.to(device) if isinstance(loss, Tensor) else loss
        self.history[:] = state["history"]
        self._started = time.perf_counter() - state["seconds"]

    def batches(self, start: int) -> Iterator[Batch]:
        """Return the epoch's batches, from one on."""
        return self.data.train.batches(
            self.size,
            epoch=self.epoch,
            seed=self.options.seed,
            shuffle=True,
            drop_last=True,
            start=start,
            shard=(ranks.rank(), ranks.world()),
        )

    def _epoch(self) -> None:
        """Take the steps of one pass over the training rows, or of what is left of it.

        Raises:
            ValueError: if a loss or gradient is NaN or infinite, with its place.
            MemoryError: if the memory does not suffice.
        """
        train_mode(self.pair, self.objective)
        try:
            for loss in itertools.islice(self._losses(), self.total - self.svi.steps):
                self._add(loss)
                self.batch += 1
                if self.svi.steps == min(GRADIENT_STEPS, self.total):
                    self._check_gradients()
                for callback in self.callbacks:
                    callback.after_step(self)
            self.svi.poll()
        except NonFinite as error:
            raise explained(error, self) from error
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise explained_memory(error, self) from error
            raise

    def _losses(self) -> Iterator[Any]:
        """Take the epoch's steps, from the present batch on; yield the loss of each."""
        if self.svi.captures and not self.data.train.streamed and ranks.world() == 1:
            yield from self._fed()
            return
        on_cpu = self.data.device.type == "cpu"
        for batch in self.batches(self.batch):
            self.random = torch.get_rng_state() if on_cpu else None
            with numbered():
                loss = self.svi.step(**batch)
            yield loss

    def _fed(self) -> Iterator[Any]:
        """Take the steps by row numbers alone: the batches are made where the steps are taken."""
        split, seed = self.data.train, self.options.seed
        self.feed = self.feed or Feed(split, self.size)
        windows = split.order(epoch=self.epoch, seed=seed).split(self.size)
        for number in range(self.batch, len(split) // self.size):
            self.feed.load(windows[number], epoch=self.epoch, seed=seed, batch=number)
            with numbered():
                loss = self.svi.step_from(self.feed)
            yield loss

    def _add(self, loss: Any) -> None:
        """Add a step's loss to the epoch's, unless the step was passed over."""
        if self.options.skip_nonfinite:
            finite = torch.as_tensor(loss).isfinite()
            self.loss = self.loss + torch.where(finite, loss, 0.0)
            self.counted = self.counted + finite
        else:
            self.loss = self.loss + loss
            self.counted += 1

    def _row(self) -> dict[str, Any]:
        """Return the epoch's row of the history."""
        step = self.svi.steps
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": step}
        row["loss"] = float(torch.as_tensor(self.loss) / self.counted)
        since = self.history
        if self.before:
            own = (r for r in self.history if r["step"] > self.before)
            since = [{**r, "step": r["step"] - self.before} for r in own]
        self.evaluations.add(row, since, last=step >= self.total)
        row["step"] = self.before + step
        row |= {"stage": self.name} if self.name else {}
        if isinstance(self.objective, Objective):
            row |= self.objective.multipliers()
        row["rate"] = self._rate()
        if self.options.skip_nonfinite:
            row["skipped"] = self.svi.guard.skipped
        row["seconds"] = time.perf_counter() - self._started
        ranks.agree("the random state", ranks.random_states())
        ranks.agree("the weights", self.svi.params.values())
        return row

    def _rate(self) -> float:
        """Return the learning rate of the last step, which may be a former, shorter run's."""
        step, rate = self.svi.steps, self.svi.rate
        if self._former is not None and self._former[0] == step:
            return self._former[1]
        return float(self.options.lr * (1.0 if rate is None else float(rate.at(step - 1))))

    def _check_gradients(self) -> None:
        lost = [] if getattr(self.objective, "whole", False) else self.svi.untrained()
        if lost and self.options.check:
            raise ValueError(
                f"{lost[0]!r} (and {len(lost) - 1} more) got no gradient in the first steps: the "
                "objective does not depend on it, or only through draws that are not "
                "reparameterised; freeze it (requires_grad_(False)) or change the objective"
            )

    def _snapshot(self, *, last: bool) -> None:
        if self.evaluations.snapshot(self.epoch, last=last):
            for callback in self.callbacks:
                callback.after_snapshot(self)


def train_mode(pair: Any, objective: Any) -> None:
    """Put a pair's modules, and those of its objective, into training mode."""
    if isinstance(pair, nn.Module):
        pair.train()
    if isinstance(objective, Objective):
        for module in objective.modules():
            module.train()


def stateful(objective: Any) -> Iterator[Any]:
    """Find the terms of an objective that have a state of their own, such as persistent chains."""
    if hasattr(objective, "state_dict") and hasattr(objective, "load_state_dict"):
        yield objective
    for term in objective.terms() if isinstance(objective, Objective) else ():
        if term is not objective:
            yield from stateful(term)
