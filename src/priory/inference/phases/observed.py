"""Which argument of the programs an observed site holds, so that a sample can take its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.distributions import Unit
from torch import Tensor

from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import base


def arguments_of(
    model: Recorder,
    inputs: Mapping[str, Any],
    taken: Mapping[str, Any],
    declared: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Return the arguments that a model's samples stand for, by name.

    An argument is matched with the site that observed it, or a view of it; the part of it that no
    site observed stays as it is.

    Args:
        model: what the model generated, and what it was given to observe.
        inputs: the programs' arguments by name.
        taken: those that the guide takes.
        declared: sites by the argument that their samples stand for.

    Raises:
        ValueError: if a site observed no argument, while the guide takes one that no sample stands
            for.
    """
    declared = dict(declared or {})
    for argument, site in declared.items():
        if site not in model.given or argument not in inputs:
            raise ValueError(
                f"arguments={{{argument!r}: {site!r}}} names no argument, or no observed site; the "
                f"programs take {', '.join(inputs) or 'none'}, the model observes "
                f"{', '.join(model.given) or 'none'}"
            )
    found = {n: s["value"] for n, s in model.sites.items() if n in inputs and n not in model.given}
    lost = []
    for site, value in model.given.items():
        sample = model.sites[site]["value"]
        names = [a for a, s in declared.items() if s == site]
        found |= {a: _in_place(a, inputs[a], sample) for a in names}
        if names or isinstance(base(model.sites[site]["fn"]), Unit):
            continue
        views = {a: found.get(a, v) for a, v in inputs.items() if a not in declared}
        views = {a: v for a, v in views.items() if _shares(value, inputs[a])}
        found |= {a: _placed(a, inputs[a], v, value, sample) for a, v in views.items()}
        if not views:
            lost.append(site)
    left = [a for a, v in taken.items() if isinstance(v, Tensor) and a not in found]
    if lost and left:
        raise ValueError(
            f"the model observed something else than an argument at {lost[0]!r}, and the guide "
            f"takes {left[0]!r}, so that it would read data in the place of the sample; observe "
            f"the argument itself, or say which the sample stands for, arguments={{{left[0]!r}: "
            f"{lost[0]!r}}}"
        )
    return found


def _shares(value: Any, column: Any) -> bool:
    """Return whether a value is an argument, or a view of it without repetition."""
    if value is column:
        return True
    if not (isinstance(value, Tensor) and isinstance(column, Tensor)):
        return False
    if not column.is_contiguous() or 0 in value.stride() or not value.numel():
        return False
    if value.untyped_storage()._cdata != column.untyped_storage()._cdata:
        return False
    first = value.storage_offset() - column.storage_offset()
    steps = zip(value.shape, value.stride(), strict=True)
    last = first + sum((n - 1) * step for n, step in steps)
    return first >= 0 and last < column.numel()


def _placed(name: str, column: Tensor, found: Tensor, view: Tensor, sample: Tensor) -> Tensor:
    """Return a column, as far as it is found, with a sample in the place of a view of it."""
    if view.shape == column.shape and view.stride() == column.stride():
        return _in_place(name, column, sample)
    sample = _in_place(name, view, sample)
    offset = view.storage_offset() - column.storage_offset()
    whole = found.to(sample.dtype).contiguous()
    return whole.as_strided_scatter(sample, view.shape, view.stride(), offset)


def _in_place(name: str, column: Tensor, sample: Tensor) -> Tensor:
    if column.shape != sample.shape:
        raise ValueError(
            f"a sample of shape {tuple(sample.shape)} cannot take the place of the argument "
            f"{name!r}, of shape {tuple(column.shape)}; draw what the argument holds (a "
            "Categorical's mean is its probabilities, not a label)"
        )
    return sample
