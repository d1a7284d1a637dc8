"""The loop over epochs: steps, bounds, patience."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from priory.data import Data
from priory.inference.bounds import NoBound, validation_bound
from priory.inference.objectives import Objective
from priory.inference.run import evaluating
from priory.inference.svi import SVI

GRADIENT_STEPS = 3


class Loop:
    """The state of one training run: what an epoch needs."""

    def __init__(
        self,
        pair: Any,
        objective: Any,
        data: Data,
        svi: SVI,
        total: int,
        size: int,
        options: dict[str, Any],
    ) -> None:
        self.pair, self.objective, self.data, self.svi = pair, objective, data, svi
        self.total, self.size, self.options = total, size, options
        self.best = -math.inf
        self.best_weights: list[Tensor] = []
        self.waited = 0

    def run(self, listeners: list[Callable[[dict[str, Any]], None]]) -> list[dict[str, Any]]:
        """Train to the end, or until patience is out."""
        history: list[dict[str, Any]] = []
        started = time.perf_counter()
        for epoch in itertools.count():
            loss = self._epoch(epoch)
            done = self.svi.steps >= self.total
            row: dict[str, Any] = {"epoch": epoch + 1, "step": self.svi.steps, "loss": float(loss)}
            if not math.isfinite(row["loss"]):
                raise ValueError(
                    f"the loss is {row['loss']} in epoch {epoch + 1}; lower lr or clip"
                )
            every = self.options["valid_every"]
            if every and ((epoch + 1) % every == 0 or done):
                row["bound"] = self._bound()
            row["rate"] = self.options["lr"] * float(self.svi.rate or 1.0)
            row["seconds"] = time.perf_counter() - started
            history.append(row)
            for listener in listeners:
                listener(row)
            if done or self._out_of_patience(row):
                break
        self._finish()
        return history

    def _epoch(self, epoch: int) -> Tensor:
        """Answer the mean loss of one pass over the training rows."""
        batches = self.data.train.batches(
            self.size, epoch=epoch, seed=self.options["seed"], shuffle=True, drop_last=True
        )
        train_mode(self.pair, self.objective)
        total: Any = 0.0
        count = 0
        for batch in itertools.islice(batches, self.total - self.svi.steps):
            total = total + self.svi.step(**batch)
            count += 1
            if self.svi.steps == GRADIENT_STEPS or self.svi.steps == self.total:
                self._check_gradients()
        return torch.as_tensor(total) / count

    def _check_gradients(self) -> None:
        lost = self.svi.untrained()
        if lost and self.options["check"]:
            raise ValueError(
                f"{lost[0]!r} (and {len(lost) - 1} more) got no gradient in the first steps: the "
                "objective does not depend on it, or only through draws that are not "
                "reparameterised; freeze it (requires_grad_(False)) or change the objective"
            )

    def _bound(self) -> float | None:
        try:
            with evaluating(self.pair), self.svi.averaged():
                return validation_bound(
                    self.pair.model,
                    self.pair.guide,
                    self.data.valid,
                    particles=self.options["valid_particles"],
                    seed=self.options["seed"],
                )
        except NoBound as error:
            if self.options["patience"] is not None:
                raise ValueError(f"patience needs a validation bound, but {error}") from error
            self.options = {**self.options, "valid_every": 0}
            return None

    def _out_of_patience(self, row: dict[str, Any]) -> bool:
        patience, bound = self.options["patience"], row.get("bound")
        if patience is None or bound is None:
            return False
        if bound > self.best:
            self.best, self.waited = bound, 0
            with self.svi.averaged():
                self.best_weights = [p.detach().clone() for p in self.svi.params.values()]
            return False
        self.waited += 1
        return self.waited >= patience

    @torch.no_grad()
    def _finish(self) -> None:
        """Leave the pair with the weights that it is to be judged by."""
        if self.best_weights:
            for p, best in zip(self.svi.params.values(), self.best_weights, strict=True):
                p.copy_(best)
        elif self.svi.ema is not None:
            self.svi.adopt_average()
        if isinstance(self.pair, nn.Module):
            self.pair.eval()


def train_mode(pair: Any, objective: Any) -> None:
    """Put a pair's modules, and its critics, into training mode."""
    if isinstance(pair, nn.Module):
        pair.train()
    if isinstance(objective, Objective):
        for adversary in objective.adversaries():
            adversary.critic.train()
