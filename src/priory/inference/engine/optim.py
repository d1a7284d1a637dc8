"""One torch optimiser over all parameters of a player, in the clothes of a Pyro optimiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor

Factory = Callable[..., torch.optim.Optimizer]


class JointOptim(PyroOptim):
    """A `PyroOptim` that steps all parameters together, by torch's fused or multi-tensor code.

    Pyro builds one torch optimiser per tensor. This one builds a single one, which gives the same
    numbers in a fraction of the calls; parameters that turn up later join it.

    Args:
        constructor: a torch optimiser's class or a `functools.partial` of one.
        options: keyword arguments of the constructor, or Pyro's function from a parameter's name
            to such.
    """

    def __init__(
        self, constructor: Factory, options: dict[str, Any] | Callable[..., dict[str, Any]]
    ) -> None:
        super().__init__(constructor, options)
        self.optimizer: torch.optim.Optimizer | None = None
        self.capturable = False
        self._known: dict[Tensor, int] = {}  # in the order in which they came

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Step all parameters, those not seen before included."""
        self.add(params)
        if self.optimizer is not None:
            self.optimizer.step(*args, **kwargs)

    def add(self, params: Iterable[Tensor]) -> None:
        """Take in parameters not seen before."""
        new = [p for p in params if p not in self._known]
        if not new:
            return
        self._known |= {p: len(self._known) + i for i, p in enumerate(new)}
        if callable(self.pt_optim_args):
            groups = [{"params": [p], **self._get_optim_args(p)} for p in new]
            options: dict[str, Any] = {}
        else:
            groups, options = [{"params": new}], dict(self.pt_optim_args)
        if self.optimizer is None:
            if _fusable(self.pt_optim_constructor, options, new):
                options["fused"] = True
            if self.capturable and new[0].is_cuda:
                options |= self._capture_options(options, new[0].device)
            self.optimizer = self.pt_optim_constructor(groups, **options)
        else:
            for group in groups:
                self.optimizer.add_param_group(group)
        self._load_waiting(new)

    @property
    def obeys_flags(self) -> bool:
        """Whether the optimiser's kernel reads on the device if it may take the step."""
        return bool(getattr(self.optimizer, "_step_supports_amp_scaling", False))

    def flag(self, flag: Tensor) -> None:
        """Make the next step one that is taken only where `flag`, shape (), is 0.0."""
        if self.optimizer is not None:
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self.optimizer.found_inf = flag  # type: ignore[attr-defined]

    def scaled(self, factor: float) -> JointOptim:
        """Answer an optimiser like this one before its first step, with `factor` times its rate."""
        options = dict(self.pt_optim_args)
        return JointOptim(self.pt_optim_constructor, options | {"lr": factor * self._lr(options)})

    def uncapturable(self) -> str:
        """Say why steps of this optimiser cannot be part of a CUDA graph, "" if they can."""
        if callable(self.pt_optim_args):
            return "the optimiser has options for each parameter"
        if not {"capturable", "fused"} <= set(_signature(self.pt_optim_constructor)):
            return "the optimiser has no capturable fused form (torch's Adam and AdamW have)"
        return ""

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self._known:
            p.grad = None

    def get_state(self) -> dict[str, Any]:
        """Answer the state of each parameter by its name in the store, as Pyro does."""
        if self.optimizer is None:
            return {}
        state = self.optimizer.state_dict()
        names = [self._name(p) for g in self.optimizer.param_groups for p in g["params"]]
        out = {}
        for group in state["param_groups"]:
            for index in group["params"]:
                own = {0: state["state"][index]} if index in state["state"] else {}
                out[names[index]] = {"state": own, "param_groups": [{**group, "params": [0]}]}
        return out

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise unless a state's tensors have the shapes of the parameters that they belong to.

        Args:
            state: by parameter name, as `get_state` answers it.

        Raises:
            ValueError: naming the first that differs.
        """
        params = {self._name(p): p for p in self._known}
        for name in state:
            if name not in params:
                raise ValueError(f"the optimiser's state has {name!r}, which is not trained here")
            for key, value in state[name]["state"].get(0, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != params[name].shape:
                    raise ValueError(
                        f"the optimiser's {key!r} of {name!r} has the shape {tuple(value.shape)}, "
                        f"expected {tuple(params[name].shape)}"
                    )

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state, as `get_state` answers it, of the parameters taken in so far."""
        self._state_waiting_to_be_consumed = dict(state)
        self._load_waiting(list(self._known))

    def _capture_options(self, options: dict[str, Any], device: torch.device) -> dict[str, Any]:
        """Answer the options of a step that a CUDA graph can repeat: nothing stays on the host."""
        return {"capturable": True, "lr": torch.tensor(self._lr(options), device=device)}

    def _lr(self, options: dict[str, Any]) -> float:
        """Answer the learning rate that the constructor takes, with these options."""
        keywords = {**getattr(self.pt_optim_constructor, "keywords", {}), **options}
        return float(keywords.get("lr", _signature(self.pt_optim_constructor)["lr"].default))

    def _load_waiting(self, params: list[Tensor]) -> None:
        """Give parameters the state that `set_state` holds for them."""
        optimizer = self.optimizer
        for p in params:
            waiting = self._state_waiting_to_be_consumed.pop(self._name(p), None)
            if waiting and optimizer is not None and 0 in waiting["state"]:
                on_device = any(optimizer.defaults.get(k) for k in ("capturable", "fused"))
                optimizer.state[p] = {
                    k: _placed(v, p, on_device or k != "step") if isinstance(v, Tensor) else v
                    for k, v in waiting["state"][0].items()
                }

    def _name(self, param: Tensor) -> str:
        name: str | None = pyro.get_param_store().param_name(param)
        return str(self._known[param]) if name is None else name  # a critic's are not in the store


def joint(optim: Any) -> PyroOptim:
    """Answer an optimiser for all parameters together.

    Args:
        optim: a `pyro.optim` optimiser, or a torch optimiser's class or `functools.partial`.
            Pyro's optimisers that do more than step (schedulers, clipping) are kept as they are.

    Raises:
        TypeError: if it is none of these.
    """
    if type(optim) is PyroOptim and not optim.pt_clip_args:
        return JointOptim(optim.pt_optim_constructor, optim.pt_optim_args)
    if isinstance(optim, PyroOptim):
        return optim
    if callable(optim) and not isinstance(optim, torch.optim.Optimizer):
        return JointOptim(optim, {})
    raise TypeError(
        f"expected a pyro.optim optimiser or a torch optimiser's factory, such as "
        f"functools.partial(torch.optim.Adam, lr=1e-3), got {optim!r}"
    )


def _fusable(constructor: Factory, options: dict[str, Any], params: list[Tensor]) -> bool:
    """Say whether torch has a fused kernel for this optimiser and these parameters."""
    keywords = {**getattr(constructor, "keywords", {}), **options}
    if not {"fused", "foreach", "differentiable"}.isdisjoint(keywords):
        return False
    target = getattr(constructor, "func", constructor)
    if target not in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        return False
    has = "fused" in inspect.signature(target).parameters
    return has and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)


def _signature(constructor: Factory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(constructor, "func", constructor)).parameters


def _placed(value: Tensor, param: Tensor, on_device: bool) -> Tensor:
    """Answer a copy of a parameter's optimiser state where the optimiser looks for it."""
    return value.to(param.device if on_device or value.dim() else value.device, copy=True)
