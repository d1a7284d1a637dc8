"""What the code of programs can reach: objects, containers, closures, globals, generators."""

from __future__ import annotations

import argparse
import collections
import dis
import functools
import random
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from priory.inference.objectives.schedules import Schedule

# Their code keeps no numbers of the programs; their objects may, and some are looked into.
_LIBRARIES = frozenset({"torch", "pyro", "numpy", "scipy", "pandas", "sklearn", "zuko", "priory"})
_LIBRARIES |= frozenset({"matplotlib", "PIL", "rich", "tqdm", "pytest", "_pytest"})
_LIBRARIES |= sys.stdlib_module_names
_LOOKED_INTO = ("torch.nn.", "torch.distributions.", "priory.", "zuko.")
_CLOCKS = frozenset({"time", "datetime", "secrets", "uuid"})
_DYNAMIC = frozenset({"getattr", "vars", "__dict__", "__getattr__", "__getattribute__", "globals"})
OF_SAVING = {
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_non_persistent_buffers_set"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    "_forward_hooks_always_called",
}
"""Of modules: what only saving reads, or what says how hooks that are kept elsewhere are called."""
_FEW = 20_000  # objects

Generator = random.Random | np.random.Generator | np.random.RandomState | torch.Generator


@dataclass
class Reached:
    """What was found; each of it with its name in messages.

    Args:
        attributes: dictionaries of the attributes of modules and other objects, and of classes;
            with the class that they are set on.
        containers: dictionaries, lists, sets and deques.
        variables: globals that are named, each with the dictionary that it is in.
        cells: of the variables of enclosing functions.
        slots: attributes that are in no dictionary, each with its object.
        arrays: of NumPy.
        tensors: neither parameters nor buffers.
        generators: of random numbers.
        own: ids of the dictionaries of attributes of objects of the user's own classes.
        names: that the code spells.
        dynamic: whether the code may read attributes by names that it does not spell.
        unseen: what cannot be looked at.
    """

    attributes: list[tuple[str, Mapping[str, Any], Any]] = field(default_factory=list)
    variables: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    containers: list[tuple[str, Any]] = field(default_factory=list)
    cells: list[tuple[str, types.CellType]] = field(default_factory=list)
    slots: list[tuple[str, Any, str]] = field(default_factory=list)
    arrays: list[tuple[str, np.ndarray]] = field(default_factory=list)
    tensors: list[tuple[str, Tensor]] = field(default_factory=list)
    generators: list[tuple[str, Generator]] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    dynamic: bool = False
    unseen: str = ""


def reach(roots: Iterable[Any]) -> Reached:
    """Find what the code of programs can read in Python.

    Args:
        roots: programs, objectives, modules.
    """
    return _Walk(roots).found


class _Walk:
    def __init__(self, roots: Iterable[Any]) -> None:
        self.found = Reached()
        self.seen: dict[int, Any] = {}  # keeps the objects, so that no number comes twice
        self.buffers: set[int] = set()
        self.modules: list[types.ModuleType] = []
        self.todo = collections.deque(("the program", root) for root in roots)
        while self.todo and not self.found.unseen:
            name, item = self.todo.popleft()
            if id(item) not in self.seen:
                self.seen[id(item)] = item
                self._visit(name, item)
            if len(self.seen) > _FEW:
                self.found.unseen = f"they reach more than {_FEW:,} objects"
            if not self.todo:
                self._globals_by_module()
        found = self.found
        found.tensors = [t for t in found.tensors if id(t[1]) not in self.buffers]

    def _visit(self, name: str, item: Any) -> None:
        if item is None or isinstance(item, str | bytes | int | float | complex | Schedule):
            return
        if isinstance(item, Tensor):
            if not isinstance(item, nn.Parameter) and not item.is_inference():
                self.found.tensors.append((name, item))
        elif isinstance(item, np.ndarray):
            self.found.arrays.append((name, item))
        elif isinstance(item, Generator):
            self.found.generators.append((name, item))
        elif isinstance(item, types.FunctionType):
            self._function(item)
        elif isinstance(item, types.ModuleType):
            self._module(item)
        elif isinstance(item, type):
            self._class(item)
        elif isinstance(item, dict | list | set | collections.deque | tuple | frozenset):
            self._container(name, item)
        elif isinstance(item, Iterator):
            self.found.unseen = f"{name} is an iterator, whose place cannot be looked at"
        elif isinstance(item, types.MethodType):
            self._add(name, item.__self__, item.__func__)
        elif isinstance(item, functools.partial):
            self._add(name, item.func, *item.args, *item.keywords.values())
        elif isinstance(item, property):
            self._add(name, item.fget)
        elif isinstance(item, staticmethod | classmethod):
            self._add(name, item.__func__)
        elif isinstance(item, functools.cached_property):
            self._add(name, item.func)
        else:
            self._object(name, item)

    def _add(self, name: str, *items: Any) -> None:
        self.todo.extend((name, item) for item in items)

    def _function(self, function: types.FunctionType) -> None:
        code = function.__code__
        names, variables = _spelled(code)
        self.found.names |= names
        if not _own(function.__globals__.get("__name__")):
            return
        self.found.dynamic |= not _DYNAMIC.isdisjoint(names)
        for cell_name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            called = f"the variable {cell_name!r} of an enclosing function"
            self.found.cells.append((called, cell))
            if _filled(cell):
                self._add(called, cell.cell_contents)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._add(f"a default of {function.__name__}", value)
        if vars(function):
            self._attributes(f"the attribute {{!r}} of {function.__name__}", vars(function), None)
        for variable in variables:
            if variable in function.__globals__:
                self.found.variables.append((function.__globals__, variable))
                value = function.__globals__[variable]
                self._clock(variable, value)
                self._add(f"the global {variable!r}", value)
            elif variable in sys.modules:  # imported inside of the function
                self._clock(variable, sys.modules[variable])
                self._add(variable, sys.modules[variable])

    def _clock(self, name: str, value: Any) -> None:
        """Note what a program reads that is another at each run, and is kept nowhere."""
        home = value.__name__ if isinstance(value, types.ModuleType) else None
        if home is None and isinstance(value, type | types.BuiltinMethodType):
            home = value.__module__
        if home in _CLOCKS:
            self.found.unseen = f"they read {name!r} of Python's {home!r}"

    def _module(self, module: types.ModuleType) -> None:
        if _own(module.__name__):
            self.modules.append(module)

    def _globals_by_module(self) -> None:
        """Look at the named variables of the modules whose variables are read as attributes."""
        for module in self.modules:
            for name in self.found.names & vars(module).keys():
                if (vars(module), name) not in self.found.variables:
                    self.found.variables.append((vars(module), name))
                    self._add(f"the global {name!r}", vars(module)[name])

    def _class(self, cls: type) -> None:
        for part in cls.__mro__:
            if not _own(part.__module__):
                self.found.names |= _library_names(part)
            elif part is cls:
                called = f"the class attribute {{!r}} of {cls.__name__}"
                self._attributes(called, vars(part), part)
            else:
                self._add(part.__name__, part)

    def _container(self, name: str, item: Any) -> None:
        if not isinstance(item, tuple | frozenset):
            self.found.containers.append((name, item))
        values = item.values() if isinstance(item, dict) else item
        self._add(name, *values)
        if _own(type(item).__module__):  # a class of one's own, such as a named tuple
            self._object(name, item)

    def _object(self, name: str, item: Any) -> None:
        cls = type(item)
        library = not _own(cls.__module__)
        plain = isinstance(item, types.SimpleNamespace | argparse.Namespace)
        if library and not plain and not f"{cls.__module__}.".startswith(_LOOKED_INTO):
            self._add(name, *(v for k, v in _vars(item).items() if k == "__wrapped__"))
            return
        self._add(name, cls)
        if isinstance(item, nn.Module):
            self.buffers |= {id(b) for b in item.buffers()}
        called = f"the attribute {{!r}} of {cls.__name__}"
        if _vars(item):
            self._attributes(called, _vars(item), None)
            self.found.own |= set() if library else {id(_vars(item))}
        slots = [s for c in cls.__mro__ for s in _listed(vars(c).get("__slots__", ()))]
        for slot in slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(item, slot):
                self.found.slots.append((called.format(slot), item, slot))
                self._add(called.format(slot), getattr(item, slot))

    def _attributes(self, called: str, values: Mapping[str, Any], owner: Any) -> None:
        self.found.attributes.append((called, values, owner))
        for name, value in values.items():
            if name not in OF_SAVING:
                self._add(called.format(name), value)


def _spelled(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Return the names and short texts in a function's code, and those that are globals."""
    names, variables = set(code.co_names), set()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner_names, inner_variables = _spelled(constant)
            names |= inner_names
            variables |= inner_variables
        elif isinstance(constant, str):
            names.add(constant)
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME"):
            variables.add(str(step.argval))
    return names, variables


@functools.lru_cache(maxsize=4096)
def _library_names(cls: type) -> frozenset[str]:
    """Return the names in the code of a library's class."""
    names: set[str] = set()
    for value in vars(cls).values():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        function = getattr(function, "func", function)
        if isinstance(function, types.FunctionType):
            names |= _spelled(function.__code__)[0]
    return frozenset(names)


def _own(module: str | None) -> bool:
    return (module or "").partition(".")[0] not in _LIBRARIES


def _vars(item: Any) -> dict[str, Any]:
    return getattr(item, "__dict__", None) or {}


def _listed(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
