"""Values of sites that are given rather than drawn, checked before the model is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, OneHotCategorical
from torch.nn.functional import one_hot

from priory.data.class_names import UNKNOWN, called_by_number, number_of
from priory.inference.phases.arguments import Program, bind, owner
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import base, in_batch
from priory.lookup import suggestion


def given_rows(
    model: Program,
    columns: Mapping[str, Any],
    given: Mapping[str, Any],
    n: int,
    names: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Return the values that n samples are given, `(n, *event)` each.

    Runs the model once on two rows, to learn its sites.

    Args:
        model: Pyro program.
        columns: the data's, which give shapes and devices.
        given: for each site, or argument that the model does not draw, one value for all samples or
            n of them; a label may be named, and a one-hot code may be its number.
        n: number of samples.
        names: of the labels 0, 1, ...

    Raises:
        ValueError: if there is no such site, or a value is not one of its own.
    """
    recorder, rows, taken = _tried(model, columns)
    known = [k for k in dict.fromkeys([*recorder.sites, *taken]) if k not in ("x", "index")]
    found = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(_unknown(name, known))
        site = recorder.sites.get(name)
        if site is not None and not in_batch(site):
            raise ValueError(f"{name} is shared by all samples, and can't be given to each")
        if site is not None and name in _after_x(recorder.sites):
            raise ValueError(f"x does not depend on {name}, which the model draws after it")
        distribution = None if site is None else site["fn"]
        like = rows[name] if site is None else site["value"]
        event = tuple(like.shape[1:]) if distribution is None else tuple(distribution.event_shape)
        labels = names if name == "y" else ()
        value = _numbered(name, value, labels)
        if isinstance(base(distribution), OneHotCategorical):
            value = _one_hot(name, value, event, n)
        tensor = _as_rows(name, value, like, event, n)
        _check(name, tensor, distribution, getattr(owner(model), "classes", None))
        found[name] = tensor
    return found


def every_value(
    model: Program, columns: Mapping[str, Any], site: str, names: Sequence[str] = ()
) -> list[int]:
    """Return the values of a label that the data have, or of a categorical site: 0, 1, ...

    Args:
        model: Pyro program.
        columns: the data's.
        site: which.
        names: of the labels 0, 1, ...; labels that are called by other numbers are returned so.

    Raises:
        ValueError: if it is neither.
    """
    column = columns.get(site)
    if isinstance(column, Tensor) and not column.is_floating_point():
        found: list[int] = column[column != UNKNOWN].unique().tolist()
        called = site == "y" and called_by_number(names)
        return [int(names[number]) for number in found] if called else found
    recorder, _, _ = _tried(model, columns)
    distribution = base(recorder.sites[site]["fn"]) if site in recorder.sites else None
    if isinstance(distribution, Categorical | OneHotCategorical):
        return list(range(distribution.logits.shape[-1]))
    raise ValueError(
        f"{site}=all needs a column {site!r} of labels, which the data have not, or a categorical "
        f"site {site!r} of the model"
    )


def _after_x(sites: Mapping[str, Any]) -> list[str]:
    """Return the names of the sites that a model draws after x."""
    order = [*sites]
    return order[order.index("x") :] if "x" in order else []


def _tried(
    model: Program, columns: Mapping[str, Any]
) -> tuple[Recorder, dict[str, Any], dict[str, Any]]:
    """Run the model on two rows; return its sites, the rows, and what it took of them."""
    rows = {k: v[torch.arange(2, device=v.device) % len(v)] for k, v in columns.items()}
    recorder = Recorder(draw_observed=True)
    with recorder:
        taken = bind(model, rows)
        model(**taken)
    return recorder, rows, taken


def _one_hot(name: str, value: Any, event: tuple[int, ...], n: int) -> Any:
    """Return one-hot rows for numbers of a code's values; anything else as it is."""
    try:
        numbers = torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError):
        return value  # whose error comes later
    (most,) = event
    if tuple(numbers.shape) not in ((), (n,)) or numbers.is_floating_point():
        return value
    _within(name, numbers, most)
    return one_hot(numbers.long(), most)


def _unknown(name: str, known: list[str]) -> str:
    if name == "x":
        return "x is what is sampled; to infer a latent from data, run the guide"
    return (
        f"the model has no site {name!r} that could be given{suggestion(name, known)}; it has "
        f"{', '.join(known) or 'none'}"
    )


def _numbered(name: str, value: Any, names: Sequence[str]) -> Any:
    """Return numbers for labels as the user calls them."""
    if isinstance(value, str):
        number = number_of(value, names)
        if number is not None:
            return number
        told = f", one of {', '.join(names)}" if names else ""
        raise ValueError(f"{name} must be a number{told}; got {value!r}")
    if isinstance(value, Tensor | np.ndarray) and value.ndim <= 1 and called_by_number(names):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_numbered(name, v, names) for v in value]
    if called_by_number(names) and isinstance(value, int | float) and value == int(value):
        number = number_of(int(value), names)
        if number is None:
            raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")
        return number
    return value


def _as_rows(name: str, value: Any, like: Tensor, event: tuple[int, ...], n: int) -> Tensor:
    try:
        tensor = torch.as_tensor(value, device=like.device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of one shape, got {value!r}") from error
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite, got {value!r}")
    whole = not like.is_floating_point()
    if whole and (tensor != tensor.round() if tensor.is_floating_point() else tensor < 0).any():
        raise ValueError(f"{name} must be integers from 0, got {value!r}")
    shape = tuple(tensor.shape)
    if shape not in (event, (n, *event)):
        raise ValueError(
            f"{name} must have the shape {event} for all samples, or {(n, *event)} with one for "
            f"each of n = {n}; got {shape}"
        )
    return tensor.to(like.dtype).expand(n, *event).clone()


def _check(name: str, rows: Tensor, distribution: Any, classes: Any) -> None:
    """Raise a ValueError unless every row is a value that the site could have."""
    inner = base(distribution)
    if isinstance(inner, Categorical):
        classes = inner.logits.shape[-1]
    elif distribution is not None:
        try:
            if bool(distribution.support.check(rows).all()):
                return
        except NotImplementedError:
            return
        raise ValueError(f"{name} must lie in the support of {type(inner).__name__}")
    if rows.is_floating_point() or not isinstance(classes, int):
        return
    _within(name, rows, classes)


def _within(name: str, numbers: Tensor, count: int) -> None:
    wrong = numbers[(numbers < 0) | (numbers >= count)]
    if len(wrong):
        raise ValueError(
            f"{name} must be an integer from 0 to {count - 1}, got {int(wrong.reshape(-1)[0])}"
        )
