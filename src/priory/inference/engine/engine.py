"""What happens in a training step, and by what it is run: eager, traced, compiled or captured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from priory.data import Feed
from priory.inference.engine.average import MovingAverage
from priory.inference.engine.cuda_graph import Capturer
from priory.inference.engine.guard import Buffers, NonFinite
from priory.inference.engine.optim import JointOptim
from priory.inference.engine.players import Player
from priory.inference.engine.step import take
from priory.inference.objectives.schedules import Schedule
from priory.inference.phases.arguments import Program, named


class Engine:
    """Takes the steps of all players.

    Args:
        model: names the positional arguments.
        pair: the player that moves last, and whose loss is returned.
        critics: the players that move first, each with its number of steps.
        schedules: what changes with the step.
        modules: those whose buffers and training modes matter.
        average: of the pair's parameters.
        capture: "auto" or "cudagraph" to capture whole steps on CUDA.
        horizon: steps of the whole training.
        log: gets a message of what is done.
    """

    def __init__(
        self,
        model: Program,
        pair: Player,
        critics: Sequence[tuple[Player, int]],
        schedules: Sequence[Schedule],
        modules: Sequence[nn.Module],
        average: MovingAverage | None,
        capture: str,
        horizon: int | None,
        log: Callable[[str], object],
    ) -> None:
        self.model, self.pair, self.critics = model, pair, critics
        self.schedules, self.modules, self.average = schedules, modules, average
        self.step = 0
        self.buffers = Buffers(modules)
        self.capturer = self._capturer(capture, horizon, log)
        self._clock: Tensor | None = None

    @property
    def players(self) -> list[Player]:
        """All players, in the order in which they move."""
        return [*(player for player, _ in self.critics), self.pair]

    @property
    def name(self) -> str:
        """How steps are run now: "eager", "traced", "compiled" or "captured"."""
        if self.capturer is not None and self.capturer.captured:
            return "captured"
        return "eager" if self.pair.compiler is None else self.pair.compiler.engine

    def take(self, args: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        """Take one step of every player, and return the pair's loss.

        Args:
            args: positional arguments of both programs.
            columns: arguments by name.

        Raises:
            NonFinite: if a loss or gradient is NaN or infinite.
        """
        self._tick()
        loss = None
        if self.capturer is not None and self._clock is not None:
            every = {**named(self.model, args), **columns}
            loss = self.capturer.step(self._all, every, self._modes())
        if loss is None:
            loss = self._turns(args, columns)
        self.step += 1
        return loss

    def take_from(self, feed: Feed) -> Any:
        """Take one step on the batch that a feed makes, inside of a captured step if there is one.

        Raises:
            NonFinite: if a loss or gradient is NaN or infinite.
        """
        self._tick()
        loss = None
        if self.capturer is not None and self._clock is not None:
            context = (self._modes(), id(feed))
            loss = self.capturer.step(
                lambda _: self._all(feed.columns()), {}, context, [feed.generator]
            )
        if loss is None:
            loss = self._all(feed.columns())
        self.step += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later step depends on but weights, buffers and random states."""
        return {
            "steps": self.step,
            "skipped": self.pair.guard.skipped,
            "silent": sorted(self.pair.silent),
            "average": {} if self.average is None else dict(self.average.values),
            "players": [player.state_dict() for player in self.players],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with the weights and buffers that the modules have now.

        Raises:
            ValueError: naming the first difference in names and shapes; nothing has changed then.
        """
        players, states, params = self.players, state["players"], self.pair.params
        if len(states) != len(players):
            raise ValueError(f"the state has {len(states)} players, this training {len(players)}")
        for player, own in zip(players, states, strict=True):
            player.check_state(own)
        for name, value in state["average"].items():
            if name not in params or value.shape != params[name].shape:
                raise ValueError(f"the moving average of {name!r} fits no parameter of that name")
        for player, own in zip(players, states, strict=True):
            player.load_state(own)
        if self.average is not None:
            self.average.load(state["average"], params)
        self.step = int(state["steps"])
        self.pair.guard.skipped = int(state["skipped"])
        self.pair.silent = set(state["silent"])
        for schedule in self.schedules:  # as the last step has left them
            schedule.move(max(0, self.step - 1))
        self.buffers.settle(False)

    def _tick(self) -> None:
        """Set all numbers that depend on the step's, in place where a captured step reads them."""
        for schedule in self.schedules:
            schedule.move(self.step)
        for player in self.players:
            player.set_rate(self.step)
        device = self.pair.device
        if self.average is not None:
            self.average.tick(self.step, device)
        if device.type == "cuda":
            if self._clock is None:
                self._clock = torch.zeros((), dtype=torch.int64, device=device)
            self._clock.fill_(self.step)

    def _turns(self, args: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        """Let every player take its steps, the pair last, whose loss is returned."""
        loss, taken = None, False
        for player, times in (*self.critics, (self.pair, 1)):
            for _ in range(times):
                try:
                    replay = self._replay(player, args, columns)
                    loss, taken = take(player, args, columns, self.step, replay, self._clock)
                except NonFinite:
                    self._restore()
                    raise
                self.buffers.settle(not taken if player.flag is None else player.flag)
        if self.average is not None and taken:
            self.average.update(self.pair.params, self.pair.flag)
        return loss

    def _all(self, columns: dict[str, Any]) -> Any:
        return self._turns((), columns)

    def _replay(
        self, player: Player, args: tuple[Any, ...], columns: dict[str, Any]
    ) -> Callable[[], Any] | None:
        """Return what sets a player's gradients by a graph, where there may be one."""
        player.check = None
        if self.step == 0 or player.compiler is None or player.compiler.reason:
            return None
        every = {**named(self.model, args), **columns}
        return lambda: player.replay(every, self.step, self._restore, self._modes())

    def _restore(self) -> None:
        self.buffers.settle(True)

    def _modes(self) -> tuple[bool, ...]:
        return tuple(m.training for m in self.modules)

    def _capturer(
        self, mode: str, horizon: int | None, log: Callable[[str], object]
    ) -> Capturer | None:
        """Return what captures steps, where it is wanted and possible."""
        if mode not in ("auto", "cudagraph"):
            return None
        reason = "" if torch.cuda.is_available() else "there is no CUDA device"
        for player in self.players:
            ours = isinstance(player.optim, JointOptim)
            reason = reason or (player.optim.uncapturable() if ours else "Pyro steps the optimiser")
        if reason:
            if mode == "cudagraph":
                text = f"the step is not captured and runs eager: {reason}"
                warnings.warn(text, stacklevel=4)
            return None
        for player in self.players:
            player.optim.capturable = True
        return Capturer(mode, horizon, log)
