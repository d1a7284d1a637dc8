"""The Python values that programs can read: what a graph of tensor operations cannot see change."""

from __future__ import annotations

import collections
import functools
import random
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import numpy as np
import pyro.util
import torch
from torch import Tensor

from priory.inference.engine.reachable import OF_SAVING, Reached, reach

_CONTAINERS = (dict, list, set, collections.deque, collections.OrderedDict, collections.defaultdict)
_PLAIN = (int, float, complex, str, bytes, bool)
_DEPTH = 6
_GONE = (KeyError, ValueError, AttributeError, IndexError)
_SMALL = 1_000_000  # elements of a tensor that is put back


class State:
    """The values in Python that the programs of a step can read, as they were at one time.

    These are the attributes of modules and other objects, of classes too, the items of lists, sets,
    dictionaries and arrays, variables of enclosing functions, and globals, as far as the code of
    the programs names them; and the states of random generators of Python and NumPy.

    Args:
        roots: programs, objectives, modules: whatever a step runs.

    Attributes:
        unseen: what the programs read that cannot be looked at, "" if nothing is known of.
    """

    def __init__(self, *roots: Any) -> None:
        found = reach(roots)
        self.unseen = found.unseen
        self._places = [*_places(found)]
        self._found = found
        self.mark()
        self._arrays = [_array(name, a) for name, a in found.arrays]
        self._note()

    def _note(self) -> None:
        filled = [place for place in self._places if place.kept or place.container is None]
        self._empty = [p.container for p in self._places if not p.kept and p.container is not None]
        self._gets = [place.get for place in filled]
        self._flat = [*chain.from_iterable(place.kept for place in filled)]

    def mark(self) -> None:
        """Note the states of random generators and how often tensors were written to, as of now."""
        found = self._found
        self._counted = [*_generators(found), *(_written(n, t) for n, t in found.tensors)]

    def same(self) -> bool:
        """Return whether all values are the same objects as they were: some microseconds."""
        if any(self._empty):  # most are: a module has a dozen of hooks' dictionaries
            return False
        try:
            now = [*chain.from_iterable([get() for get in self._gets])]
        except _GONE:  # a name is gone
            return False
        if len(now) != len(self._flat) or not all(map(is_, now, self._flat)):
            return False
        return all(array.get() == array.kept for array in self._arrays)

    def renew(self) -> None:
        """Take equal values, that are other objects, for the same from now on."""
        for place in self._places:
            place.kept = place.get()
        self._note()

    def changes(self, read: Collection[int] = (), *, run: bool = False) -> list[str]:
        """Name what is another than it was.

        Args:
            read: ids of the tensors that a graph reads: another tensor in the place of one that it
                does not read is no change.
            run: whether the programs alone have run since, so that the states of random generators
                and what was written to tensors count.
        """
        places = [*self._places, *self._arrays, *(self._counted if run else ())]
        found = (place.change(read) for place in places)
        return [*dict.fromkeys(name for name in found if name)]

    def restore(self) -> None:
        """Put all values back as they were."""
        for place in (*self._places, *self._arrays, *self._counted):
            place.restore()


class _Place:
    """Where values are: what they are called, how they are got and put back.

    Args:
        name: what the value at a position is called.
        get: returns the values.
        put: puts values back.
        container: that the values are all the items of, and that is false only where it has none.
    """

    def __init__(
        self,
        name: Callable[[int], str],
        get: Callable[[], tuple[Any, ...]],
        put: Callable[[tuple[Any, ...]], object],
        container: Any = None,
    ) -> None:
        self.name, self.get, self.put, self.container = name, get, put, container
        self.kept = get()

    def change(self, read: Collection[int]) -> str:
        """Name the first value that is another, "" if none is."""
        try:
            now = self.get()
        except _GONE:
            return self.name(0)
        for i, (a, b) in enumerate(zip(self.kept, now, strict=False)):
            if not _equal(a, b, read):
                return self.name(i)
        return "" if len(now) == len(self.kept) else self.name(max(0, len(self.kept) - 1))

    def restore(self) -> None:
        try:
            now = self.get()
            if len(now) == len(self.kept) and all(map(is_, now, self.kept)):
                return
        except _GONE:
            pass
        self.put(self.kept)


def _places(found: Reached) -> Iterator[_Place]:
    for called, values, owner in found.attributes:
        keys = [k for k in values if (found.dynamic or k in found.names) and k not in OF_SAVING]
        if keys:
            yield _keyed(called.format, values, keys, owner)
        if isinstance(values, dict) and id(values) in found.own:
            yield _items(called.format("a new one"), values)
    for variables, key in found.variables:
        yield _keyed("the global {!r}".format, variables, [key], None)
    for called, item in found.containers:
        if isinstance(item, dict) and item:
            yield _keyed(functools.partial(_constant, called), item, [*item], None)
        yield _items(called, item)
    for called, cell in found.cells:
        if _has(cell):
            yield _single(called, cell, "cell_contents")
    for called, item, slot in found.slots:
        yield _single(called, item, slot)


def _single(called: str, owner: Any, attribute: str) -> _Place:
    """Return the place of one attribute."""

    def put(kept: tuple[Any, ...]) -> None:
        setattr(owner, attribute, kept[0])

    return _Place(lambda _: called, lambda: (getattr(owner, attribute),), put)


def _constant(called: str, _: Any) -> str:
    return called


def _has(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _keyed(called: Callable[[str], str], values: Any, keys: list[Any], owner: Any) -> _Place:
    """Return the place of the values under some keys of a dictionary, or of a class."""
    got = itemgetter(*keys, keys[0]) if keys else lambda _: ()

    def put(kept: tuple[Any, ...]) -> None:
        for key, value in zip(keys, kept, strict=False):
            if values.get(key, put) is not value:
                if owner is None:
                    values[key] = value
                else:
                    setattr(owner, key, value)

    get = functools.partial(got, values)
    return _Place(lambda i: called(keys[i % len(keys)]), get, put)


def _items(called: str, item: Any) -> _Place:
    """Return the place of a list's items, a set's or a deque's; of a dictionary, of its keys."""

    def put(kept: tuple[Any, ...]) -> None:
        if isinstance(item, dict):
            for key in [k for k in item if k not in kept]:
                del item[key]
            return
        item.clear()
        (item.update if isinstance(item, set) else item.extend)(kept)

    container = item if type(item) in _CONTAINERS else None
    return _Place(lambda _: called, lambda: tuple(item), put, container)


def _array(called: str, array: np.ndarray) -> _Place:
    copy = array.copy()

    def put(_: Any) -> None:
        array[...] = copy

    return _Place(lambda _: called, lambda: (array.tobytes(),), put)


def _written(called: str, tensor: Tensor) -> _Place:
    """Return the place of a tensor that is neither parameter nor buffer: how often written to."""
    copy = tensor.detach().clone() if tensor.numel() <= _SMALL else None

    def put(_: Any) -> None:
        if copy is not None:
            with torch.no_grad():
                tensor.copy_(copy)

    return _Place(lambda _: f"the tensor in {called}", lambda: (tensor._version,), put)


def _generators(found: Reached) -> Iterator[_Place]:
    """Return the places of the states of random generators, as texts that can be compared."""
    yield _of_library("random", "Python")
    yield _of_library("numpy", "NumPy")
    for called, item in found.generators:
        yield _generator(f"the random generator in {called}", item)


def _of_library(key: str, called: str) -> _Place:
    def get() -> tuple[Any, ...]:
        return (_Text(pyro.util.get_rng_state()[key]),)

    def put(kept: tuple[Any, ...]) -> None:
        pyro.util.set_rng_state({**pyro.util.get_rng_state(), key: kept[0].state})

    return _Place(lambda _: f"the state of {called}'s random numbers", get, put)


def _generator(called: str, item: Any) -> _Place:
    if isinstance(item, np.random.Generator):
        return _Place(
            lambda _: called,
            lambda: (_Text(item.bit_generator.state),),
            lambda kept: setattr(item.bit_generator, "state", kept[0].state),
        )
    get, put = (
        (item.getstate, item.setstate)
        if isinstance(item, random.Random)
        else (item.get_state, item.set_state)
    )
    return _Place(lambda _: called, lambda: (_Text(get()),), lambda kept: put(kept[0].state))


class _Text:
    """A generator's state, which is compared by its numbers."""

    def __init__(self, state: Any) -> None:
        self.state, self.numbers = state, _numbers(state)


def _numbers(state: Any) -> Any:
    if isinstance(state, dict):
        return {k: _numbers(v) for k, v in state.items()}
    if isinstance(state, tuple):
        return tuple(_numbers(v) for v in state)
    return state.tolist() if isinstance(state, np.ndarray | Tensor) else state


def _equal(a: Any, b: Any, read: Collection[int], depth: int = 0) -> bool:
    """Return whether two values are the same for a program."""
    if a is b:
        return True
    if type(a) is not type(b) or depth > _DEPTH:
        return isinstance(a, Tensor) and id(a) not in read
    if isinstance(a, Tensor):
        return id(a) not in read
    if isinstance(a, _PLAIN):
        return bool(a == b) or (a != a and b != b)
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k], read, depth + 1) for k in a)
    if isinstance(a, list | tuple):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(_equal(x, y, read, depth + 1) for x, y in pairs)
    if isinstance(a, set | frozenset):
        return bool(a == b)
    if isinstance(a, _Text):
        return bool(a.numbers == b.numbers)
    own = getattr(a, "__dict__", None)
    return bool(own) and _equal(own, vars(b), read, depth + 1)
