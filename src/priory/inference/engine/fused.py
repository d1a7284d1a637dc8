"""Steps of torch's fused Adam on a CPU, without its bookkeeping: the same numbers in less time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as hooks

_STATE = ("step", "exp_avg", "exp_avg_sq")
_PLAIN = inspect.unwrap(torch.optim.Adam.step)
_SIGNATURE = (
    "(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, "
    "Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, "
    "float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, "
    "Tensor? found_inf=None) -> ()"
)  # what the private kernels take in the versions that this was tested with


class FusedAdam:
    """Takes the plain steps of a fused `Adam` or `AdamW` by one call of torch's kernel per group.

    Its lists are gathered once, and anew where the groups, the parameters or the tensors of their
    state are others. The optimiser's state stays its own; only the counts of steps become views of
    one tensor, so that one call moves them all.

    Args:
        optimizer: whose steps are taken.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._step = type(optimizer).step
        self._lists: dict[int, _Lists] = {}

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> FusedAdam | None:
        """Return one for an optimiser, `None` if its steps are others or the kernel is unknown."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return None
        if inspect.unwrap(type(optimizer).step) is not _PLAIN or any(not p.is_cpu for p in params):
            return None
        known = all(map(_known, ("_fused_adam_", "_fused_adamw_")))
        return cls(optimizer) if known else None

    def __reduce__(self) -> Any:
        return FusedAdam, (self.optimizer,)  # a copy gathers lists of its own

    @torch.no_grad()
    def step(self) -> bool:
        """Take a step, and say so; `False` where it is the optimiser's own to take.

        Its own are the first step, which makes the state, steps with hooks, flags or a profiler,
        steps of some of the parameters, and those by other options than a plain fused one's.
        """
        groups = self.optimizer.param_groups
        if not self._undisturbed() or not all(map(_plain, groups)):
            return False
        ready = []
        for i, group in enumerate(groups):
            lists = self._lists.get(i)
            if lists is None or not lists.current(group, self.optimizer.state):
                lists = self._lists[i] = _Lists(group, self.optimizer.state)
            gradients = [p.grad for p in lists.params]
            dense = [g for g in gradients if g is not None and not g.is_sparse]
            if not lists.usable or len(dense) < len(gradients):
                return False
            ready.append((group, lists, gradients))
        for group, lists, gradients in ready:
            self._apply(group, lists, gradients)
        return True

    def _apply(self, group: dict[str, Any], lists: _Lists, gradients: list[Any]) -> None:
        decoupled = group.get("decoupled_weight_decay", type(self.optimizer) is torch.optim.AdamW)
        kernel: Callable[..., None] = torch._fused_adamw_ if decoupled else torch._fused_adam_
        lists.counted += 1
        kernel(
            lists.params,
            gradients,
            lists.first,
            lists.second,
            [],
            lists.steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    def _undisturbed(self) -> bool:
        """Return whether nothing but the optimiser's own code would run in its step."""
        own = vars(self.optimizer)
        return not (
            type(self.optimizer).step is not self._step
            or "step" in own  # wrapped by a scheduler of torch, say
            or own["_optimizer_step_pre_hooks"]
            or own["_optimizer_step_post_hooks"]
            or hooks._global_optimizer_pre_hooks
            or hooks._global_optimizer_post_hooks
            or own.get("grad_scale") is not None
            or own.get("found_inf") is not None
            or torch.autograd.profiler._is_profiler_enabled
        )


class _Lists:
    """What the kernel takes of one group, as it is now.

    Attributes:
        usable: whether there is a state of every parameter, of one kind and laid out as they are.
        counted: the numbers of steps, shape (parameters,), in the memory of `steps`: adding to a
            tensor takes some 60 microseconds where the caches are full of a step's data.
    """

    def __init__(self, group: dict[str, Any], state: dict[Tensor, dict[str, Any]]) -> None:
        self.params: list[Tensor] = list(group["params"])
        self.own = [*map(state.get, self.params)]
        self.keys, self.owners = [*state], [*state.values()]
        self.usable = all(_uniform(p, own) for p, own in zip(self.params, self.own, strict=True))
        self.usable &= len({p.dtype for p in self.params}) == 1
        self.layout = [p.stride() for p in self.params]
        self.tensors: list[Tensor] = []
        if not self.usable:
            return
        owners: list[dict[str, Any]] = [own for own in self.own if own is not None]
        count = torch.stack([own["step"] for own in owners])
        self.counted = count.numpy()
        for i, own in enumerate(owners):
            own["step"] = count[i]
        self.steps, self.first, self.second = ([own[k] for own in owners] for k in _STATE)
        self.tensors = [own[k] for own in owners for k in _STATE]

    def current(self, group: dict[str, Any], state: dict[Tensor, dict[str, Any]]) -> bool:
        """Return whether the same lists would be gathered now."""
        params = group["params"]
        if not self.usable or not _same(params, self.params):
            return False
        # A tensor's hash is a call in Python: the dictionary is compared without looking into it.
        if not (_same([*state], self.keys) and _same([*state.values()], self.owners)):
            return False
        own = [own for own in self.own if own is not None]
        if {*map(len, own)} != {len(_STATE)}:
            return False
        tensors = [each.get(key) for each in own for key in _STATE]
        return _same(tensors, self.tensors) and self.layout == [p.stride() for p in params]


def _known(name: str) -> bool:
    """Return whether torch's kernel of a name takes what it is given here."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or not hasattr(torch, name):
        return False
    return str(packet.default._schema).removeprefix(f"aten::{name}") == _SIGNATURE


def _plain(group: dict[str, Any]) -> bool:
    """Return whether a group is stepped by the fused kernel with numbers of Python as options."""
    other = ("amsgrad", "foreach", "capturable", "differentiable")
    numbers = (group["lr"], *group["betas"], group["weight_decay"], group["eps"])
    return bool(
        group["fused"] and not any(map(group.get, other)) and {*map(type, numbers)} <= {float, int}
    )


def _uniform(param: Tensor, own: dict[str, Any] | None) -> bool:
    """Return whether a parameter has a state that lies in memory as it does itself."""
    if own is None or own.keys() != set(_STATE):
        return False
    step, moments = own["step"], [own["exp_avg"], own["exp_avg_sq"]]
    if not all(isinstance(t, Tensor) and t.is_cpu for t in (param, step, *moments)):
        return False
    kind = (param.dtype, param.shape, param.stride())
    same = all((t.dtype, t.shape, t.stride()) == kind for t in moments)
    return same and param.is_floating_point() and (step.dtype, step.dim()) == (torch.float32, 0)


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
