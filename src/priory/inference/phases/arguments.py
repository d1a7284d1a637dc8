"""Arguments of Pyro programs, bound by name to the data's columns; what a program is made of."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from priory.inference.phases.recorder import below_handler
from priory.likelihoods import Likelihood

Program = Callable[..., Any]


class Signature(NamedTuple):
    """What a program can be given: names in order, those without a default, and the rest."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    keywords: bool


def bind(program: Program, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that a program's signature names; `**kwargs` gets none.

    The signature is that of the innermost program, below partials and Pyro's handlers; a guide that
    forwards whatever it is given, as Pyro's autoguides do, has its model's.

    Raises:
        ValueError: if a required argument has no column.
    """
    names, required, _ = signature(program)
    missing = [n for n in required if n not in columns]
    if missing:
        raise ValueError(
            f"{_title(program)} needs the argument {missing[0]!r}, "
            f"but the data have the columns {', '.join(columns) or 'none'}; name arguments "
            "after columns"
        )
    return {n: columns[n] for n in names if n in columns}


def build(pair: Any, x: torch.Tensor, columns: Mapping[str, Any]) -> None:
    """Make the parameters of a lazy pair from x and those other columns that its `build` names.

    Args:
        pair: with a method `build`, or without one.
        x: training data.
        columns: the training columns.
    """
    if callable(make := getattr(pair, "build", None)):
        names = signature(make).names[1:]
        make(x, **{n: columns[n] for n in names if n in columns})


def named(program: Program, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return positional arguments by the names that a program's signature gives them."""
    if not args:
        return {}
    names = signature(program).names
    if len(args) > len(names):
        raise ValueError(
            f"the model takes {len(names)} arguments ({', '.join(names)}), got {len(args)}"
        )
    return dict(zip(names, args, strict=False))


def check_keywords(programs: tuple[Program, ...], columns: Mapping[str, Any]) -> None:
    """Raise if an argument given by name would reach no program, where Pyro would pass it on.

    Raises:
        ValueError: naming the argument.
    """
    found = [signature(program) for program in programs]
    if any(one.keywords for one in found):
        lost = [n for n in columns if not any(n in one.names for one in found)]
        if lost:
            raise ValueError(
                f"no program names the argument {lost[0]!r}, and **kwargs is given none; name it "
                "in a program's signature"
            )


def signature(program: Program) -> Signature:
    """Return what a program can be given, of the innermost one below handlers and partials."""
    bound = inspect.ismethod(program)
    key: Any = program.__func__ if bound else program  # type: ignore[attr-defined]
    known = _KNOWN.get(key) if _is_kept(key) else None
    if known is None or bound not in known:
        taken = _parameters(program)
        kinds = inspect.Parameter
        plain = [p for p in taken if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
        made = Signature(
            tuple(p.name for p in plain),
            tuple(p.name for p in plain if p.default is p.empty),
            any(p.kind is kinds.VAR_KEYWORD for p in taken),
        )
        if not _is_kept(key):
            return made
        known = _KNOWN.setdefault(key, {})
        known[bound] = made
    return known[bound]


def innermost(program: Any) -> Any:
    """Return the program that partials and Pyro's handlers are wrapped around."""
    while (inner := _inside(program)) is not None:
        program = inner
    return program


def owner(program: Any) -> Any:
    """Return the object whose method a program is, below handlers; the program itself if none."""
    inner, held = program, None
    while inner is not None:
        held = getattr(inner, "__self__", held)
        if (handled := below_handler(inner)) is not None:
            held = next(iter(handled[1]), held)
        program, inner = inner, _inside(inner)
    return program if held is None else held


def is_estimated(program: Any) -> bool:
    """Return whether a pair's log densities are unbiased estimates, as of a continuous flow.

    No mean of their exponentials is an estimate of p(x), and none bounds it.
    """
    return getattr(owner(program), "is_estimated", False) is True


def likelihood_at(program: Program, site: str) -> Likelihood | None:
    """Return the likelihood that a pair's model has of a site, None if it has none of ours.

    By its `read`, values of a table are given to nets in units of their columns.

    Args:
        program: the model.
        site: the site; a pair's likelihood is that of `x`.
    """
    found = getattr(owner(program), "likelihood", None) if site == "x" else None
    return found if isinstance(found, Likelihood) else None


def modules_of(program: Any) -> list[nn.Module]:
    """Return the modules that a pair or a program runs: itself, its owner, those it closes over."""
    if isinstance(program, nn.Module):
        return [program]
    if inspect.ismethod(program):
        return modules_of(program.__self__)
    if inspect.isfunction(program):
        own = [m for m in _closure(program) if isinstance(m, nn.Module)]
        return [*own, *modules_of(program.__wrapped__)] if hasattr(program, "__wrapped__") else own
    if isinstance(program, functools.partial):
        return [m for part in (program.func, *program.args) for m in modules_of(part)]
    return [
        m
        for part in getattr(program, "__dict__", {}).values()
        if isinstance(part, nn.Module | functools.partial) or inspect.isroutine(part)
        if getattr(part, "__self__", None) is not program  # a method of its own, held under a name
        for m in modules_of(part)
    ]


_Known = weakref.WeakKeyDictionary[Any, dict[bool, Signature]]
_KNOWN: _Known = weakref.WeakKeyDictionary()


def _is_kept(key: Any) -> bool:
    """Return whether an object is looked up by identity, and can be referred to weakly."""
    return inspect.isfunction(key) or type(key) is functools.partial or isinstance(key, nn.Module)


def _inside(program: Any) -> Any:
    """Return what is one wrapping further inside, `None` at the innermost program."""
    if (handled := below_handler(program)) is not None:
        return handled[0]
    if isinstance(program, functools.partial):
        return program.func
    if "__signature__" in getattr(program, "__dict__", {}):
        return None
    return getattr(program, "__wrapped__", None)


def _parameters(program: Any) -> list[inspect.Parameter]:
    """Return the parameters that are still to be given."""
    handled = below_handler(program)
    if handled is not None or isinstance(program, functools.partial):
        inner, given = handled or (program.func, program.args)
        bound = getattr(program, "keywords", {})
        return [p for p in _without(_parameters(inner), len(given)) if p.name not in bound]
    if inspect.ismethod(program):
        return _without(_parameters(program.__func__), 1)
    if (inner := _inside(program)) is not None:
        return _parameters(inner)
    if isinstance(program, nn.Module):
        return _of_module(program)
    if not inspect.isroutine(program) and not inspect.isclass(program):
        return _parameters(program.__call__)
    return list(inspect.signature(program).parameters.values())


def _of_module(program: nn.Module) -> list[inspect.Parameter]:
    """Return those of `forward`, or where it takes anything, of the program that it forwards to."""
    own = _parameters(program.forward)
    kinds = inspect.Parameter
    if all(p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) for p in own):
        for name in ("guide", "model"):  # of Pyro's easy guides and autoguides
            if callable(target := getattr(program, name, None)):
                taken = _parameters(target)
                if any(p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) for p in taken):
                    return taken
    return own


def _without(parameters: list[inspect.Parameter], count: int) -> list[inspect.Parameter]:
    """Drop the positional parameters that are given already; `*args` takes any number."""
    kinds = inspect.Parameter
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    places = [n for n, p in enumerate(parameters) if p.kind in positional][:count]
    return [p for n, p in enumerate(parameters) if n not in places]


def _closure(function: Callable[..., Any]) -> Iterator[Any]:
    try:
        scope = inspect.getclosurevars(function)
    except ValueError:  # a cell that is not filled yet
        return
    yield from (*scope.nonlocals.values(), *scope.globals.values())


def _title(program: Program) -> str:
    inner = innermost(program)
    return str(getattr(inner, "__qualname__", type(inner).__name__))
