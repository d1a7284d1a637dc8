"""A player: parameters, the loss that they minimise, and the optimiser that moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro.infer.util import zero_grads
from torch import Tensor

from priory.inference.distributed.noise import global_noise, rows_of
from priory.inference.engine.guard import Guard
from priory.inference.engine.optim import JointOptim, joint
from priory.inference.engine.tracing import Compiler
from priory.inference.objectives.base import Adversary, Objective
from priory.inference.objectives.schedules import Schedule
from priory.inference.phases.arguments import Program
from priory.inference.phases.phases import Phases
from priory.inference.phases.precision import autocast


class Player:
    """The pair, or a critic, in a training step: gradients, guard, update.

    Args:
        loss: from a batch's arguments to the loss, shape (); may have set the gradients itself.
        optim: a `JointOptim`, or one of Pyro's optimisers.
        guard: passes steps that are finite.
        compiler: runs the loss and its gradients as a graph; eager without one.
        rate: schedule of a factor on every learning rate.
        precision: "bf16" for nets in bfloat16.
        clip: largest global norm of the gradient.
        name: owner of the loss in messages, for instance "critic's ".
        judges_loss: whether a loss that is NaN or infinite stops a step whose gradients are finite.
        after: is called after each update, to bring the parameters within bounds, in place; it
            must leave parameters alone that are within them.

    Raises:
        ValueError: if the optimiser does not let a schedule set its learning rate.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        optim: Any,
        guard: Guard,
        compiler: Compiler | None = None,
        *,
        rate: Schedule | None = None,
        clip: float | None = None,
        precision: str = "float32",
        name: str = "",
        judges_loss: bool = True,
        after: Callable[[], None] | None = None,
    ) -> None:
        if rate is not None and not isinstance(optim, JointOptim):
            raise ValueError(
                f"rate= moves the learning rate of a plain optimiser; {type(optim).__name__} sets "
                "its own, or clips: give an optimiser of torch or a plain one of pyro.optim, with "
                "clip= for SVI, or leave rate= out"
            )
        self.loss, self.optim, self.guard, self.compiler = loss, optim, guard, compiler
        self.rate, self.clip, self.precision, self.name = rate, clip, precision, name
        self.after, self.judges_loss = after, judges_loss
        self.params: dict[str, Tensor] = {}
        self.silent: set[str] = set()
        self.flag: Tensor | None = None
        self.check: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.params.values()), torch.device("cpu"))

    def meet(self, params: Mapping[str, Tensor]) -> None:
        """Take in parameters by name; `silent` has the names of those without a gradient so far.

        A tensor that has several names is one parameter, under the first of them. One that has
        taken the name of another, after the store was cleared, takes its place.
        """
        for name, param in params.items():
            if name in self.params and self.params[name] is not param:
                del self.params[name]
                if self.compiler is not None and not self.compiler.reason:
                    self.compiler.give_up(f"the parameter {name!r} has been replaced")
        known = {id(p) for p in self.params.values()}
        for name, param in params.items():
            if id(param) not in known:
                known.add(id(param))
                self.params[name] = param
                self.silent.add(name)

    def value(self, *args: Any, **columns: Any) -> Any:
        """Return the loss of a batch, shape (); one of Pyro's own sets the gradients as well."""
        rows = rows_of([*args, *columns.values()])
        with autocast(self.precision, self.device), global_noise(rows):
            return self.loss(*args, **columns)

    def replay(
        self,
        columns: Mapping[str, Any],
        step: int,
        restore: Callable[[], None],
        context: Any,
    ) -> Tensor | None:
        """Set the gradients by a graph, where there is one for this step, and return the loss.

        Args:
            columns: all arguments by name.
            step: number of the step.
            restore: puts back the buffers that an eager run moved.
            context: whatever else the graph depends on.
        """
        if self.compiler is None:
            return None
        params = list(self.params.values())
        found = self.compiler.gradients(
            self.value, params, columns, step=step, restore=restore, context=context
        )
        self.check = None if found is None else self.compiler.check
        return found

    def trained(self) -> list[Tensor]:
        """Return the parameters, some of which a first step has made known."""
        if self.silent:
            self.silent -= {n for n, p in self.params.items() if p.grad is not None}
        return list(self.params.values())

    def judge(self, loss: Any, step: int, clock: Tensor | None) -> bool:
        """Return whether the weights may move: the loss and the gradients are finite.

        Args:
            loss: of the step.
            step: its number.
            clock: the same on the device, where the verdict is not waited for; True is returned
                then, and `flag` holds the verdict, which the optimiser obeys.

        Raises:
            NonFinite: if they are not, and no step may be passed over.
        """
        params, judged = list(self.params.values()), loss if self.judges_loss else None
        if isinstance(self.optim, JointOptim) and self.optim.joint is None:
            self.optim.add(params)
            self.set_rate(step)
        if clock is not None and getattr(self.optim, "obeys_flags", False):
            self.flag = self.guard.flag(clock, judged, params)
            self.optim.flag(self.flag)
            return True
        return self.guard.verdict(step, judged, params, self.check, self.name)

    def bound(self) -> None:
        """Bring the parameters within their bounds, if they have any."""
        if self.after is not None:
            self.after()

    def forget_gradients(self) -> None:
        """Take the gradients off the parameters."""
        if isinstance(self.optim, JointOptim):
            for p in self.params.values():
                p.grad = None
        else:
            zero_grads(list(self.params.values()))

    def set_rate(self, step: int) -> None:
        """Set the learning rates of a step, in place where a captured step reads them.

        Args:
            step: its number.
        """
        if self.rate is None:
            return
        self.rate.step = step
        for group in self._groups:
            base = group.setdefault("initial_lr", float(group["lr"]))
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(base * float(self.rate))
            else:
                group["lr"] = base * float(self.rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state by parameter, and the rates before the schedule's factor."""
        groups = self._groups if self.rate is not None else []
        rates = [float(g.get("initial_lr", g["lr"])) for g in groups]
        return {"optim": self.optim.get_state(), "rates": rates}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise a ValueError unless a state has the names and shapes of the parameters."""
        if isinstance(self.optim, JointOptim):
            self.optim.add(self.params.values())
            self.optim.check_state(state["optim"])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        if isinstance(self.optim, JointOptim):
            self.optim.load_state(state["optim"])
            for group, rate in zip(self._groups, state["rates"], strict=False):
                group["initial_lr"] = rate
        else:
            self.optim.set_state(state["optim"])

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the optimiser, none before its first step."""
        made = self.optim.joint if isinstance(self.optim, JointOptim) else None
        return [] if made is None else made.param_groups


def critic_loss(model: Program, guide: Program, adversary: Adversary) -> Callable[..., Tensor]:
    """Return a critic's loss as a function of a batch's arguments.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        adversary: owner of the critic.
    """

    def loss(*args: Any, **columns: Any) -> Tensor:
        return adversary.critic_loss(Phases(model, guide, args, columns))

    return loss


def critic_optims(
    objective: Any, optim: Any, own: Any = None
) -> Iterator[tuple[Adversary, JointOptim]]:
    """Find the adversaries of an objective, and an optimiser for each critic's parameters.

    Args:
        objective: of the pair; others than an `Objective` have no adversaries.
        optim: the pair's optimiser, as a factory.
        own: the critics', in place of one like the pair's.

    Raises:
        ValueError: if it does more than step, or is good for named parameters only.
    """
    adversaries = list(objective.adversaries()) if isinstance(objective, Objective) else []
    for adversary in adversaries:
        made = joint(optim if own is None else own)
        if not isinstance(made, JointOptim) or callable(made.pt_optim_args):
            raise ValueError("an adversarial objective needs a critic_optim beside this optimiser")
        # One of Pyro's that no other player uses can itself keep the state.
        alone = own is not None and len(adversaries) == 1 and adversary.rate == 1
        yield adversary, made if alone else made.scaled(adversary.rate)
