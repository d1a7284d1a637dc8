"""One torch optimiser over all parameters of a player, as a Pyro optimiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor

from priory.inference.engine.fused import FusedAdam

Factory = Callable[..., torch.optim.Optimizer]

_KERNEL = {"fused", "foreach", "capturable", "differentiable"}  # the same numbers by other code


class JointOptim(PyroOptim):
    """A `PyroOptim` that steps all parameters together, by torch's fused or multi-tensor code.

    Pyro builds one torch optimiser per tensor. This one builds a single one, which gives the same
    numbers in a fraction of the calls; parameters that turn up later join it. Its state has Pyro's
    form, parameter by parameter, and so have its `optim_objs`.

    Args:
        constructor: a torch optimiser's class or a `functools.partial` of one.
        options: keyword arguments of the constructor, or Pyro's function from a parameter's name
            to such.
    """

    def __init__(
        self, constructor: Factory, options: dict[str, Any] | Callable[..., dict[str, Any]]
    ) -> None:
        super().__init__(constructor, options)
        self._begin()

    def _begin(self) -> None:
        # Not `optimizer`: by that name Pyro's `is_scheduler` knows a scheduler.
        self.joint: torch.optim.Optimizer | None = None
        self._kernel: FusedAdam | None = None
        self.capturable = False
        self._known: dict[Tensor, int] = {}  # in the order in which they came

    @classmethod
    def adopt(cls, optim: PyroOptim) -> JointOptim:
        """Make one of Pyro's optimisers step all its parameters together, with what it has so far.

        The object stays the caller's, so that its `get_state`, `save` and `optim_objs` show the
        training, and a second training with it goes on from there.
        """
        former = vars(optim).pop("optim_objs")
        waiting = dict(optim._state_waiting_to_be_consumed)
        optim.__class__ = cls
        optim._begin()
        if former:
            optim._state_waiting_to_be_consumed = {
                optim._name(p): made.state_dict() for p, made in former.items()
            }
            optim.add(former)
        optim._state_waiting_to_be_consumed = waiting
        adopted: JointOptim = optim
        return adopted

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Step parameters, those not seen before included; each once."""
        params = list(params)
        self.add(params)
        if self.joint is None:
            return
        if self._fused:
            _lay_out(params)
        if len(params) >= len(self._known):
            if args or kwargs or self._kernel is None or not self._kernel.step():
                self.joint.step(*args, **kwargs)
            return
        moved = {id(p) for p in params}
        resting = [(p, p.grad) for p in self._known if id(p) not in moved and p.grad is not None]
        try:
            for p, _ in resting:
                p.grad = None
            self.joint.step(*args, **kwargs)
        finally:
            for p, grad in resting:
                p.grad = grad

    def add(self, params: Iterable[Tensor]) -> None:
        """Take in parameters not seen before."""
        new = [p for p in dict.fromkeys(params) if p not in self._known]
        if not new:
            return
        self._known |= {p: len(self._known) + i for i, p in enumerate(new)}
        if callable(self.pt_optim_args):
            groups = [{"params": [p], **self._get_optim_args(p)} for p in new]
            options: dict[str, Any] = {}
        else:
            groups, options = [{"params": new}], dict(self.pt_optim_args)
        if self.joint is None:
            given = set(options).union(*groups)
            if _fusable(self.pt_optim_constructor, given, new):
                options["fused"] = True
            if self.capturable and new[0].is_cuda:
                options |= self._capture_options(options, new[0].device)
            self.joint = self.pt_optim_constructor(groups, **options)
            self._kernel = FusedAdam.of(self.joint)
        else:
            for group in groups:
                self.joint.add_param_group(group)
        for made in self.joint.param_groups:
            if made.get("fused") and not all(map(_dense, made["params"])):
                made["fused"] = False
        self._load_waiting(new)

    @property
    def _fused(self) -> bool:
        """Whether torch's fused kernel takes the steps."""
        return self.joint is not None and bool(self.joint.defaults.get("fused"))

    @property
    def optim_objs(self) -> dict[Tensor, torch.optim.Optimizer]:
        """Pyro's view: for each parameter an optimiser of it alone, with the state in common.

        To set an option, such as a learning rate, sets it for that parameter.
        """
        return {p: self._share(p) for p in self._known}

    @optim_objs.setter
    def optim_objs(self, empty: dict[Tensor, torch.optim.Optimizer]) -> None:
        """Take Pyro's assignment in its constructor; there is nothing to keep."""

    def set_option(self, param: Tensor, key: str, value: Any) -> None:
        """Set an option of the optimiser for one parameter.

        Raises:
            ValueError: if its steps are part of a CUDA graph, which would not notice.
        """
        group = self.group(param)
        if key in group and group[key] == value:
            return
        if isinstance(group.get(key), Tensor):
            raise ValueError(
                f"{key!r} cannot be set while steps are captured; give SVI a schedule (rate=...), "
                "or compile='off'"
            )
        self._move(param, {**_options(group), key: value})

    def group(self, param: Tensor) -> dict[str, Any]:
        """Return the parameter group of a parameter that is known."""
        groups = [] if self.joint is None else self.joint.param_groups
        return next(g for g in groups if any(q is param for q in g["params"]))

    @property
    def obeys_flags(self) -> bool:
        """Whether the optimiser's kernel reads on the device if it may take the step."""
        return bool(getattr(self.joint, "_step_supports_amp_scaling", False))

    def flag(self, flag: Tensor) -> None:
        """Make the next step one that is taken only where `flag`, shape (), is 0.0."""
        if self.joint is not None:
            self.joint.grad_scale = None  # type: ignore[attr-defined]
            self.joint.found_inf = flag  # type: ignore[attr-defined]

    def scaled(self, factor: float) -> JointOptim:
        """Return an optimiser like this one before its first step, with `factor` times its rate."""
        options = dict(self.pt_optim_args)
        if factor != 1:
            options["lr"] = factor * self._lr(options)
        return JointOptim(self.pt_optim_constructor, options)

    def uncapturable(self) -> str:
        """Say why steps of this optimiser cannot be part of a CUDA graph, "" if they can."""
        if callable(self.pt_optim_args):
            return "the optimiser has options for each parameter"
        if self.joint is not None and not self.capturable:
            return "the optimiser has taken steps before"
        if not {"capturable", "fused"} <= set(_signature(self.pt_optim_constructor)):
            return "the optimiser has no capturable fused form (torch's Adam and AdamW have)"
        return ""

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self._known:
            p.grad = None

    def get_state(self) -> dict[str, Any]:
        """Return the state of each parameter by its name in the store, as Pyro does."""
        out: dict[str, Any] = dict(self._state_waiting_to_be_consumed)
        if self.joint is None:
            return out
        for group in self.joint.param_groups:
            for p in group["params"]:
                own = {0: self.joint.state[p]} if self.joint.state.get(p) else {}
                groups = [{**_options(group), "params": [0]}]
                out[self._name(p)] = {"state": own, "param_groups": groups}
        return out

    def set_state(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `get_state` gave, here or of Pyro's optimiser of the same kind.

        Parameters that have taken steps get it at once, those to come when they come.

        Raises:
            ValueError: if it has another form, or fits the shape of a parameter not.
        """
        for name, own in state_dict.items():
            if not (isinstance(own, Mapping) and {"state", "param_groups"} <= set(own)):
                raise ValueError(
                    f"the optimiser's state of {name!r} has the form of another kind of optimiser "
                    "(a learning-rate scheduler's, say); load it into one of that kind"
                )
        for p in self._known:
            self._check_shapes(p, state_dict)
        self._state_waiting_to_be_consumed.update(state_dict)
        self._load_waiting(list(self._known))

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise unless a state's tensors have the shapes of the parameters that they belong to.

        Args:
            state: by parameter name, as `get_state` returns it.

        Raises:
            ValueError: naming the first that differs.
        """
        names = {name for p in self._known for name in self._names(p)}
        for name in state:
            if name not in names:
                raise ValueError(f"the optimiser's state has {name!r}, which is not trained here")
        for p in self._known:
            self._check_shapes(p, state)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state, as `get_state` returns it, of the parameters taken in so far."""
        self._state_waiting_to_be_consumed = dict(state)
        self._load_waiting(list(self._known))

    def _check_shapes(self, param: Tensor, state: Mapping[str, Any]) -> None:
        for name in self._names(param):
            for key, value in state.get(name, {"state": {}})["state"].get(0, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != param.shape:
                    raise ValueError(
                        f"the optimiser's {key!r} of {name!r} has the shape {tuple(value.shape)}, "
                        f"expected {tuple(param.shape)}"
                    )

    def _share(self, param: Tensor) -> torch.optim.Optimizer:
        """Return an optimiser of one parameter, whose state and options are this one's."""
        share = self.pt_optim_constructor([param], **self._get_optim_args(param))
        if self.joint is not None:
            share.state[param] = self.joint.state[param]
        share.param_groups = [_Options(self, param)]
        return share

    def _move(self, param: Tensor, options: dict[str, Any]) -> None:
        """Put a parameter into the group that has such options, a new one if none has."""
        if self.joint is None:
            return
        groups, old = self.joint.param_groups, self.group(param)
        into = next((g for g in groups if g is not old and _options(g) == options), None)
        if into is None and len(old["params"]) == 1:
            old.update(options)
            return
        old["params"] = [q for q in old["params"] if q is not param]
        if into is None:
            groups.append({"params": [param], **options})
        else:
            into["params"].append(param)
        self.joint.param_groups = [g for g in groups if g["params"]]

    def _capture_options(self, options: dict[str, Any], device: torch.device) -> dict[str, Any]:
        """Return the options of a step that a CUDA graph can repeat: nothing stays on the host."""
        return {"capturable": True, "lr": torch.tensor(self._lr(options), device=device)}

    def _lr(self, options: dict[str, Any]) -> float:
        """Return the learning rate that the constructor takes, with these options."""
        keywords = {**getattr(self.pt_optim_constructor, "keywords", {}), **options}
        return float(keywords.get("lr", _signature(self.pt_optim_constructor)["lr"].default))

    def _load_waiting(self, params: list[Tensor]) -> None:
        """Give parameters the state and the options that `set_state` holds for them."""
        optimizer, waiting = self.joint, self._state_waiting_to_be_consumed
        if optimizer is None or not waiting:
            return
        for p in params:
            name = next((n for n in self._names(p) if n in waiting), None)
            if name is None:
                continue
            self._check_shapes(p, waiting)
            found = waiting.pop(name)
            on_device = any(optimizer.defaults.get(k) for k in ("capturable", "fused"))
            state = optimizer.state[p]
            state.clear()
            for key, v in found["state"].get(0, {}).items():
                is_tensor = isinstance(v, Tensor)
                state[key] = _placed(v, p, on_device or key != "step") if is_tensor else v
            self._load_options(p, found["param_groups"][0])

    def _load_options(self, param: Tensor, found: Mapping[str, Any]) -> None:
        """Give a parameter the options of a state, apart from those that name a kernel."""
        present = self.group(param)
        options = _options(present) | {k: v for k, v in _options(found).items() if k not in _KERNEL}
        for key, value in options.items():
            if isinstance(present.get(key), Tensor):  # a captured step reads it where it is
                present[key].fill_(float(value))
                options[key] = present[key]
            elif isinstance(value, Tensor):
                options[key] = value.item()
        if options != _options(present):
            self._move(param, options)

    def _name(self, param: Tensor) -> str:
        name: str | None = pyro.get_param_store().param_name(param)
        return str(self._known[param]) if name is None else name  # a critic's are not in the store

    def _names(self, param: Tensor) -> list[str]:
        """Return all names of a parameter: a net may be registered twice."""
        first = self._name(param)
        every = pyro.get_param_store().named_parameters()
        return [first, *(n for n, q in every if q is param and n != first)]


class _Options(MutableMapping[str, Any]):
    """The options of one parameter, as a group of a torch optimiser of it alone."""

    def __init__(self, optim: JointOptim, param: Tensor) -> None:
        self._optim, self._param = optim, param

    def _live(self) -> dict[str, Any]:
        return {**_options(self._optim.group(self._param)), "params": [self._param]}

    def __getitem__(self, key: str) -> Any:
        return self._live()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._optim.set_option(self._param, key, value)

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"the option {key!r} of an optimiser cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._live())

    def __len__(self) -> int:
        return len(self._live())


def joint(optim: Any) -> PyroOptim:
    """Return an optimiser for all parameters together.

    Args:
        optim: a `pyro.optim` optimiser, or a torch optimiser's class or `functools.partial`.
            One of Pyro's is made joint in place; those that do more than step (schedulers,
            clipping) are kept as they are.

    Raises:
        TypeError: if it is none of these.
    """
    if type(optim) is PyroOptim and not optim.pt_clip_args:
        return JointOptim.adopt(optim)
    if isinstance(optim, PyroOptim):
        return optim
    if callable(optim) and not isinstance(optim, torch.optim.Optimizer):
        return JointOptim(optim, {})
    raise TypeError(
        f"expected a pyro.optim optimiser or a torch optimiser's factory, such as "
        f"functools.partial(torch.optim.Adam, lr=1e-3), got {optim!r}"
    )


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k != "params"}


def _fusable(constructor: Factory, given: Collection[str], params: list[Tensor]) -> bool:
    """Return whether torch has a fused kernel for this optimiser and these parameters."""
    keywords = {*getattr(constructor, "keywords", {}), *given}
    if not {"fused", "foreach", "differentiable"}.isdisjoint(keywords):
        return False
    target = getattr(constructor, "func", constructor)
    if target not in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        return False
    has = "fused" in inspect.signature(target).parameters
    suits = (p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)
    return has and all(suits) and all(map(_dense, params))


def _dense(param: Tensor) -> bool:
    """Return whether a parameter fills its memory, in whatever order of its axes."""
    return param.stride() == torch.empty_like(param).stride()


def _lay_out(params: Iterable[Tensor]) -> None:
    """Give gradients the order in memory that their parameters have.

    Torch's fused kernels on a CPU go through both in the order of memory, whatever the strides: a
    transposed gradient would move other weights than its own, without a word. A gradient that
    `backward` accumulates has the parameter's order; one of `torch.autograd.grad` may have another.
    """
    for p in params:
        if p.grad is not None and p.grad.layout is p.layout and p.grad.stride() != p.stride():
            p.grad = torch.empty_like(p).copy_(p.grad)


def _signature(constructor: Factory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(constructor, "func", constructor)).parameters


def _placed(value: Tensor, param: Tensor, on_device: bool) -> Tensor:
    """Return a copy of a parameter's optimiser state where the optimiser looks for it."""
    if value.shape == param.shape and value.dim():
        return torch.empty_like(param, dtype=value.dtype).copy_(value)  # in its order in memory
    return value.to(param.device if on_device or value.dim() else value.device, copy=True)
