"""SVI: stochastic variational inference, a drop-in for Pyro's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any

import pyro
import pyro.infer
import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from priory.data import Feed
from priory.inference.checks import (
    check_critics,
    check_pair,
    check_plates,
    check_ranks,
    check_registered,
)
from priory.inference.distributed import ranks
from priory.inference.distributed.batchnorm import share_statistics
from priory.inference.distributed.noise import global_noise, rows_of
from priory.inference.engine.average import MovingAverage
from priory.inference.engine.engine import Engine
from priory.inference.engine.guard import Buffers, Guard, NonFinite
from priory.inference.engine.optim import joint
from priory.inference.engine.players import Player, critic_loss, critic_optims
from priory.inference.engine.tracing import Compiler, Mode
from priory.inference.modules import device_of, modules
from priory.inference.objectives.base import Adversary, Objective, schedules
from priory.inference.objectives.schedules import Schedule
from priory.inference.options import check_options
from priory.inference.phases.arguments import Program, bind, check_keywords, named, owner
from priory.inference.phases.phases import Phases
from priory.inference.phases.precision import Precision
from priory.inference.phases.recorder import ParameterRecorder
from priory.inference.randomness import own_randomness

__all__ = ["SVI", "NonFinite"]


class SVI(pyro.infer.SVI):
    """Trains a pair of Pyro programs by an objective. Takes the place of `pyro.infer.SVI`.

    Works with any Pyro program (`pyro.param`, `pyro.module`, PyroModules, autoguides) and with
    Pyro's own ELBOs or any callable as loss. Beyond Pyro's it steps all parameters of a player by
    one fused optimiser, leaves the loss on the device, checks the pair before the first step (under
    an `Objective`), stops a loss or gradient that is NaN or infinite before it touches the weights
    (of other people's losses the gradient alone), and trains critics as further players.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        optim: a `pyro.optim` optimiser, or a torch optimiser's class or `functools.partial`.
        loss: an `Objective`, one of Pyro's ELBOs, or a callable
            `loss(model, guide, *args, **columns)`.
        loss_and_grads: as in Pyro; computes the loss and its gradients in place of `loss`.
        critic_optim: the critics' optimiser; by default a second one like `optim`.
        rate: schedule of a factor on every learning rate of an optimiser that does not set its own.
        clip: largest global norm of the pair's gradient.
        ema: decay of an exponential moving average of the parameters; see `averaged`.
        check: whether to look at the pair of an `Objective` before the first step, and raise where
            Pyro would warn or keep silent: sites that do not match, data outside of a likelihood's
            support, log-probabilities of a wrong shape, parameters that are not trained. Pyro's
            validation is never switched on; an `Objective`, and what is compiled, do without it
            after the first step.
        compile: "trace" replays the step's tensor operations without Pyro's overhead, "inductor"
            compiles them (some ten seconds, and a C++ compiler), "cudagraph" captures the whole
            step on CUDA; "auto" chooses what the steps to come repay. What cannot be traced or
            captured runs eager, with a warning.
        horizon: steps of the whole training, by which "auto" chooses.
        precision: "bf16" runs the nets in bfloat16 and keeps densities in float32.
        skip: how many steps with a loss or gradient that is NaN or infinite may be passed over.
        log: is called with a message of what "auto" does; nothing is logged without it.

    Raises:
        ValueError: if an option is out of range or, at the first step, the pair fails the check.
        NonFinite: at a step whose loss or gradient is NaN or infinite (on CUDA: at `poll`).

    Example:
        >>> from functools import partial
        >>> from priory.inference import ELBO
        >>> svi = SVI(pair.model, pair.guide, partial(torch.optim.Adam, lr=1e-3), ELBO())
        >>> svi.step(x).shape         # reading the value waits for the device
        torch.Size([])
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        optim: Any,
        loss: Objective | PyroELBO | Callable[..., Any],
        loss_and_grads: Callable[..., Any] | None = None,
        *,
        critic_optim: Any = None,
        rate: Schedule | None = None,
        clip: float | None = None,
        ema: float | None = None,
        check: bool = True,
        compile: Mode = "off",
        horizon: int | None = None,
        precision: Precision = "float32",
        skip: int = 0,
        log: Callable[[str], object] | None = None,
    ) -> None:
        check_options({"clip": clip, "skip": skip, "compile": compile, "precision": precision})
        super().__init__(model, guide, joint(optim), loss, loss_and_grads)
        if getattr(loss, "whole", False):
            compile = "off"  # there is no gradient whose graph could be replayed
        logged = log or _silent
        ours = isinstance(loss, Objective)
        own = loss_and_grads is not None or isinstance(loss, PyroELBO)
        if own:
            _check_alone()
        self.objective, self.rate, self.check, self.compile = loss, rate, check, compile
        self.guard = Guard(skip)
        self._ready = self._strangers = False
        self._stored: list[Tensor] | None = None
        self._validates = not ours and compile == "off"

        def player(loss: Callable[..., Any], optim: Any, **options: Any) -> Player:
            compiler = None
            if compile not in ("off", "cudagraph"):
                compiler = Compiler(compile, horizon, logged, (model, guide, self.objective))
            options |= {"rate": rate, "precision": precision}
            return Player(loss, optim, self.guard, compiler, **options)

        whole = functools.partial(self.loss_and_grads if own else self.loss, model, guide)
        # Pyro's tail-adaptive bound, for one, has an infinite loss and a finite gradient.
        self.pair = player(self._registering(whole), self.optim, clip=clip, judges_loss=ours)
        if own and self.pair.compiler is not None:
            self.pair.compiler.give_up("the loss computes its gradients by itself")
        self.critics: list[tuple[Adversary, Player]] = [
            (a, player(critic_loss(model, guide, a), its, name="critic's ", after=a.bound))
            for a, its in critic_optims(loss, optim, critic_optim)
        ]
        self._engine = Engine(
            model,
            self.pair,
            [(player, a.steps) for a, player in self.critics],
            list(schedules(loss, model, guide)),
            modules(model, guide, *(loss.modules() if isinstance(loss, Objective) else ())),
            None if ema is None else MovingAverage(ema),
            compile,
            horizon,
            logged,
        )

    @property
    def params(self) -> dict[str, Tensor]:
        """The pair's parameters by their names in Pyro's store, as far as they are known."""
        return self.pair.params

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return self._engine.step

    @property
    def skipped(self) -> int:
        """Number of steps passed over so far because a loss or gradient was NaN or infinite."""
        return self.guard.skipped

    @property
    def engine(self) -> str:
        """How steps are run now: "eager", "traced", "compiled" or "captured"."""
        return self._engine.name

    def prepare(self, *args: Any, **columns: Any) -> None:
        """Check the pair, build the critics, and register every parameter; before the first step.

        Args:
            args: one batch's positional arguments of both programs.
            columns: its arguments by name.

        Raises:
            ValueError: if the pair fails the check.
        """
        self._look(args, columns)
        every = {**named(self.model, args), **columns}
        kept, recorder = own_randomness(device_of(every)), ParameterRecorder()
        noise = global_noise(rows_of(every.values()))
        with kept, torch.no_grad(), pyro.validation_enabled(False), noise, recorder:
            phases = Phases(self.model, self.guide, columns=every)
            ours = self.objective if isinstance(self.objective, Objective) else None
            awake = ours is None or ours.needs_awake(phases)
            chain: Any = owner(self.model)
            if not awake and hasattr(chain, "descend"):  # whole ways take minutes, and none is used
                chain.register(every["x"])
            else:
                self.guide(**bind(self.guide, every))
                self.model(**bind(self.model, every))
            if self.check and ours is not None and awake:
                check_plates(phases.awake, rows_of(every.values()))
        self._engine.buffers.settle(True)
        self._register(recorder.params)

    def step(self, *args: Any, **columns: Any) -> Any:
        """Take one step: each critic's steps, then the pair's.

        Args:
            args: positional arguments of both programs.
            columns: arguments by name.

        Returns:
            The pair's loss, a tensor of shape () on its device (what the loss returns, if it is one
            of Pyro's).

        Raises:
            NonFinite: if a loss or gradient is NaN or infinite; weights and steps are as before.
        """
        first = not self._ready
        if first:
            if isinstance(self.objective, Objective):
                check_keywords((self.model, self.guide), columns)
            self._look(args, columns)
        # Validation is as the user has it, at each step of Pyro's own losses, and at the first one
        # of ours, which then do without for speed.
        if self._validates or (first and self.check):
            return self._engine.take(args, columns)
        with pyro.validation_enabled(False):
            return self._engine.take(args, columns)

    def step_from(self, feed: Feed) -> Any:
        """Take one step on the batch that a feed makes; a captured step makes it by itself.

        Args:
            feed: loaded with the rows of the batch; to be used after `prepare`.
        """
        with pyro.validation_enabled(False):
            return self._engine.take_from(feed)

    @property
    def captures(self) -> bool:
        """Whether steps are captured, or will be once they are warm."""
        capturer = self._engine.capturer
        return capturer is not None and not capturer.idle and not capturer.reason

    def poll(self) -> None:
        """Read what a CUDA device has found so far; on a CPU nothing is left to read.

        Raises:
            NonFinite: if a step stopped the training since the last time.
        """
        self.guard.poll()

    def untrained(self) -> list[str]:
        """Return the names of parameters that have had no gradient in any step so far."""
        return sorted(self.pair.silent)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the parameters their moving average for a while; nothing happens without `ema`."""
        if self._engine.average is not None:
            self._engine.average.swap(self.params)
        try:
            yield
        finally:
            if self._engine.average is not None:
                self._engine.average.swap(self.params)

    def adopt_average(self) -> None:
        """Give the parameters their moving average for good; nothing happens without `ema`."""
        if self._engine.average is not None:
            self._engine.average.adopt(self.params)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later step depends on but weights, buffers and random states."""
        self.guard.poll()
        return self._engine.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, after `prepare`.

        Raises:
            ValueError: naming the first difference in names and shapes; nothing has changed then.
        """
        self._engine.load_state_dict(state)

    def _look(self, args: tuple[Any, ...], columns: dict[str, Any]) -> None:
        """Check the pair by its first batch, and build what is lazy."""
        if self._ready:
            return
        if isinstance(self.objective, Objective):
            with global_noise(rows_of([*args, *columns.values()])):
                if self.check:
                    check_pair(self.objective, Phases(self.model, self.guide, args, columns))
                for adversary, _ in self.critics:
                    adversary.build(Phases(self.model, self.guide, args, columns))
            for adversary, player in self.critics:
                params = adversary.critic.named_parameters()
                player.params = {n: p for n, p in params if p.requires_grad}
            self.objective.to(device_of([*args, *columns.values()]))
            check_ranks(self.objective, self.model, self.guide)
        share_statistics(*self._engine.modules)
        ranks.broadcast_(t for m in self._engine.modules for t in (*m.parameters(), *m.buffers()))
        self._engine.buffers = Buffers(self._engine.modules)
        if self.compile != "off":
            for schedule in self._engine.schedules:
                schedule.lift(device_of([*args, *columns.values()]))
        self._ready = True

    def _registering(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        """Return a loss that takes in the parameters that its programs have added to the store."""

        def registering(*args: Any, **columns: Any) -> Any:
            if not self._strangers and self._same_store():
                return loss(*args, **columns)
            with ParameterRecorder() as recorder:
                value = loss(*args, **columns)
            self._register(recorder.params)
            return value

        return registering

    def _same_store(self) -> bool:
        """Return whether the store holds the tensors that it held when it was last looked at."""
        known = self._stored
        found = [p for _, p in pyro.get_param_store().named_parameters()]
        return known is not None and len(found) == len(known) and all(map(is_, found, known))

    def _register(self, params: dict[str, Tensor]) -> None:
        self._stored = [p for _, p in pyro.get_param_store().named_parameters()]
        self.pair.meet(params)
        # A parameter of another program may become one of this pair's at any step.
        met = {id(p) for p in self.params.values()}
        self._strangers = any(id(p) not in met for p in self._stored)
        if self.check:
            check_registered((self.model, self.guide), list(self.params.values()))
            check_critics([a.critic for a, _ in self.critics], list(self.params.values()))


def _silent(_message: str) -> None:
    pass


def _check_alone() -> None:
    if ranks.world() > 1:
        raise ValueError(
            "Pyro's own losses sum over the batch, and cannot be averaged over ranks; take "
            "priory.inference.ELBO, or train in one process"
        )
