"""SVI: stochastic variational inference, a drop-in for Pyro's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pyro
import pyro.infer
import torch
from pyro.infer import ELBO as PyroELBO
from pyro.infer.util import zero_grads
from torch import Tensor, nn

from priory.inference.adversary import Adversarial
from priory.inference.arguments import Program, named
from priory.inference.checks import check_critics, check_pair, check_registered
from priory.inference.compiled import Compiler
from priory.inference.objectives import Objective
from priory.inference.optim import JointOptim, joint
from priory.inference.phases import ParameterRecorder, Phases
from priory.inference.schedules import Schedule


class SVI(pyro.infer.SVI):
    """Trains a pair of Pyro programs by an objective. Takes the place of `pyro.infer.SVI`.

    Works with any Pyro program (`pyro.param`, `pyro.module`, PyroModules, autoguides) and with
    Pyro's own ELBOs or any callable as loss. Beyond Pyro's it steps all parameters of a player by
    one fused torch optimiser, leaves the loss on the device, checks the pair once before the first
    step, and trains the critics of adversarial objectives as further players.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z given x).
        optim: a `pyro.optim` optimiser, or a torch optimiser's class or `functools.partial`.
        loss: an `Objective`, one of Pyro's ELBOs, or a callable
            `loss(model, guide, *args, **columns)`.
        loss_and_grads: as in Pyro; computes the loss and its gradients in place of `loss`.
        critic_optim: the critics' optimiser; by default a second one like `optim`.
        rate: schedule of a factor on every learning rate.
        clip: largest global norm of the pair's gradient.
        ema: decay of an exponential moving average of the parameters; see `averaged`.
        check: whether to look at the pair before the first step, and raise where Pyro would warn
            or keep silent: sites that do not match, data outside of a likelihood's support,
            log-probabilities of a wrong shape, parameters that are not trained.
        compile: "inductor" compiles loss and gradients into one graph at the second step, which
            takes some ten seconds and a C++ compiler, and runs it from then on; "trace" replays
            the graph without compiling it. What cannot be traced runs eager, with a warning.

    Raises:
        ValueError: at the first step, if the pair fails the check.

    Example:
        >>> svi = SVI(pair.model, pair.guide, partial(Adam, lr=1e-3), ELBO())   # doctest: +SKIP
        >>> for x in batches:                                                   # doctest: +SKIP
        ...     loss = svi.step(x)     # a tensor of shape (): reading it waits for the device
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
        compile: Literal["off", "trace", "inductor"] = "off",
    ) -> None:
        if clip is not None and clip <= 0:
            raise ValueError(f"clip must be positive, got {clip}")
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {ema}")
        super().__init__(model, guide, joint(optim), loss, loss_and_grads)
        self.objective = loss
        self.clip, self.ema, self.rate, self.check = clip, ema, rate, check
        self.compiler = None if compile == "off" else Compiler(compile)
        self.steps = 0
        self.params: dict[str, Tensor] = {}
        self._own_gradients = loss_and_grads is not None or isinstance(loss, PyroELBO)
        self._silent: set[str] = set()
        self._average: list[Tensor] = []
        self._store_size = -1
        self._base_rates: dict[int, list[float]] = {}
        self._schedules = list(_schedules(loss, model, guide))
        players = loss.adversaries() if isinstance(loss, Objective) else []
        factory = critic_optim if critic_optim is not None else optim
        self.critics: list[tuple[Adversarial, JointOptim]] = [
            (a, _critic(factory)) for a in players
        ]

    def step(self, *args: Any, **columns: Any) -> Any:
        """Take one step: each critic's steps, then the pair's.

        Args:
            args: positional arguments of both programs.
            columns: arguments by name.

        Returns:
            The pair's loss, a tensor of shape () on its device (what the loss returns, if it is one
            of Pyro's).
        """
        first = self.steps == 0
        if first:
            self._prepare(args, columns)
        for schedule in self._schedules:
            schedule.step = self.steps
        with pyro.validation_enabled(first and self.check):
            for adversary, optim in self.critics:
                for _ in range(adversary.steps):
                    self._critic_step(adversary, optim, args, columns)
            loss = self._player_step(args, columns)
        self.steps += 1
        return loss

    def untrained(self) -> list[str]:
        """Answer the names of parameters that have had no gradient in any step so far."""
        return sorted(self._silent)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the parameters their moving average for a while; nothing happens without `ema`."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def adopt_average(self) -> None:
        """Give the parameters their moving average for good."""
        for p, a in zip(self.params.values(), self._average, strict=False):
            p.copy_(a)

    def _prepare(self, args: tuple[Any, ...], columns: dict[str, Any]) -> None:
        if isinstance(self.objective, Objective):
            phases = Phases(self.model, self.guide, args, columns)
            if self.check:
                check_pair(self.objective, phases)
            for adversary, _ in self.critics:
                adversary.build(Phases(self.model, self.guide, args, columns))

    def _player_step(self, args: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        store = pyro.get_param_store()
        if len(store) != self._store_size:
            with ParameterRecorder() as recorder:
                loss = self._gradients(args, columns)
            self._register(recorder.params)
            self._store_size = len(store)
        else:
            loss = self._gradients(args, columns)
        if self._silent:
            self._silent -= {n for n, p in self.params.items() if p.grad is not None}
        params = list(self.params.values())
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(params, self.clip)
        self._set_rate(self.optim)
        self.optim(params)
        if isinstance(self.optim, JointOptim):
            self.optim.zero_grad()
        else:
            zero_grads(params)
        if self.ema is not None:
            self._update_average()
        return loss

    def _gradients(self, args: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        if self.compiler is not None and self.steps > 0:
            compiled = self._compiled(args, columns)
            if compiled is not None:
                return compiled
        if self._own_gradients:
            return self.loss_and_grads(self.model, self.guide, *args, **columns)
        loss = self.loss(self.model, self.guide, *args, **columns)
        if isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
            return loss.detach()
        return loss

    def _compiled(self, args: tuple[Any, ...], columns: dict[str, Any]) -> Tensor | None:
        compiler = self.compiler
        if compiler is None or compiler.reason:
            return None
        if self._own_gradients:
            compiler.give_up("the loss computes its gradients by itself")
            return None
        if self._schedules:
            compiler.give_up("a schedule stands in the objective or the pair")
            return None
        loss = functools.partial(self.loss, self.model, self.guide)
        every = {**named(self.model, args), **columns}
        return compiler.gradients(loss, list(self.params.values()), every)

    def _critic_step(
        self,
        adversary: Adversarial,
        optim: JointOptim,
        args: tuple[Any, ...],
        columns: dict[str, Any],
    ) -> None:
        params = [p for p in adversary.critic.parameters() if p.requires_grad]
        phases = Phases(self.model, self.guide, args, columns)
        adversary.critic_loss(phases).backward()
        optim.add(params)
        self._set_rate(optim)
        optim(params)
        optim.zero_grad()

    def _register(self, params: dict[str, Tensor]) -> None:
        new = {n: p for n, p in params.items() if n not in self.params}
        self.params.update(new)
        self._silent |= set(new)
        if self.check:
            check_registered((self.model, self.guide), list(self.params.values()))
            check_critics([a.critic for a, _ in self.critics], list(self.params.values()))

    def _set_rate(self, optim: Any) -> None:
        optimizer = getattr(optim, "optimizer", None)
        if self.rate is None or optimizer is None:
            return
        base = self._base_rates.setdefault(id(optim), [])
        base.extend(g["lr"] for g in optimizer.param_groups[len(base) :])
        self.rate.step = self.steps
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * float(self.rate)

    @torch.no_grad()
    def _update_average(self) -> None:
        params = list(self.params.values())
        for p in params[len(self._average) :]:
            self._average.append(p.detach().clone())
        decay = min(self.ema or 0.0, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, params, 1 - decay)

    @torch.no_grad()
    def _swap(self) -> None:
        for p, a in zip(self.params.values(), self._average, strict=False):
            kept = p.detach().clone()
            p.copy_(a)
            a.copy_(kept)


def _critic(optim: Any) -> JointOptim:
    made = joint(optim)
    if made is optim or callable(made.pt_optim_args):
        raise ValueError("an adversarial objective needs a critic_optim beside this optimiser")
    return made


def _schedules(*roots: Any) -> Iterator[Schedule]:
    """Find the schedules among the attributes of objectives and of the pair's modules."""
    for root in roots:
        owner = getattr(root, "__self__", root)
        if isinstance(owner, Schedule):
            yield owner
        elif isinstance(owner, Objective):
            yield from _schedules(*(v for v in vars(owner).values() if isinstance(v, Schedule)))
            yield from _schedules(*(t for t in owner.terms() if t is not owner))
        elif isinstance(owner, nn.Module):
            attributes = itertools.chain.from_iterable(vars(m).values() for m in owner.modules())
            yield from (v for v in attributes if isinstance(v, Schedule))
