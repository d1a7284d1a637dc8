"""What makes a metric of a function, and the small steps that all metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from priory.evaluation.record import Estimate, Record, Unavailable
from priory.evaluation.rows import thin
from priory.lookup import named

Need = Literal[
    "background",
    "density",
    "generated",
    "labels",
    "latents",
    "log_weight",
    "outliers",
    "phase",
    "posterior",
    "reconstructions",
    "train",
    "x",
]
Group = Literal["likelihood", "posterior", "samples", "latents", "paths", "insight"]
Better = Literal["lower", "higher"]
GROUPS: tuple[str, ...] = get_args(Group)
_Function = TypeVar("_Function", bound=Callable[[Any], Estimate])
_Found = TypeVar("_Found", Estimate, Record)


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Args:
        function: computes the number from draws.
        group: the family that it is listed and asked for under.
        needs: the attributes of `Draws` that it reads; where one is unavailable, the metric is not
            applicable for that reason.
        better: the direction in which the number improves, if it has one.
        anchored: whether it compares samples with data, and is given for the two anchors too.
        slow: whether it takes minutes, so that it is measured only when it is asked for.
        quantity: says what exactly is measured, and what a reader must know of it, if anything.
    """

    function: Callable[[Any], Estimate]
    group: Group
    needs: tuple[Need, ...]
    better: Better | None = None
    anchored: bool = False
    slow: bool = False
    quantity: Callable[[Any], tuple[str, str]] | None = None


METRICS: dict[str, Metric] = {}
"""All metrics by name: the package's own in the order in which they are shown, then others."""


def metric(
    group: Group,
    *needs: Need,
    better: Better | None = None,
    anchored: bool = False,
    slow: bool = False,
    quantity: Callable[[Any], tuple[str, str]] | None = None,
    name: str | None = None,
) -> Callable[[_Function], _Function]:
    """Make a metric of a function of draws: a row of `METRICS`, under the function's own name.

    The function is given a `Sets`, or for a pair a `Draws`, and answers an `Estimate`; the first
    sentence of its docstring is what `priory list metrics` and the reports say of it. Where it
    raises `Unavailable`, the metric is not applicable for that reason.

    Args:
        group: the family that it is listed and asked for under: likelihood, posterior, samples,
            latents, paths or insight.
        needs: the draws that it reads, such as x, generated, labels, train, latents or log_weight;
            where one is unavailable, the metric is not applicable for that reason.
        better: the direction in which the number improves, lower or higher, if it has one.
        anchored: whether it compares samples with data, and is given for the two anchors too.
        slow: whether it takes minutes, so that it is measured only when it is asked for.
        quantity: says what exactly is measured, and what a reader must know of it, if anything.
        name: another name than the function's, where that cannot be had.

    Raises:
        ValueError: if there is a metric or a group of that name already, or a group, a need or a
            direction is unknown.

    Example:
        >>> from priory.evaluation import evaluate_samples
        >>> @metric("samples", "generated", better="lower")
        ... def shift(draws):
        ...     '''Largest distance between a feature's mean in samples and in data.'''
        ...     distance = (draws.generated.mean(0) - draws.real.mean(0)).abs().max()
        ...     return Estimate(float(distance), None, len(draws.real), "biased")
        >>> print(evaluate_samples(fake, real, metrics=["shift"])["shift"])
        shift = ... (biased, n = ...)
        >>> METRICS.pop("shift").group  # forgotten again
        'samples'
    """
    named("group", group, dict.fromkeys(GROUPS))
    for need in needs:
        named("need", need, dict.fromkeys(get_args(Need)))
    if better is not None:
        named("direction", better, dict.fromkeys(get_args(Better)))

    def register(function: _Function) -> _Function:
        key = name or function.__name__
        if key in (*GROUPS, "all"):
            raise ValueError(f"{key!r} asks for a group of metrics: name the metric otherwise")
        if key in METRICS:
            where = METRICS[key].function.__module__
            raise ValueError(
                f"there is a metric {key!r} already, of {where}: name this one otherwise, or "
                f"del METRICS[{key!r}] first"
            )
        METRICS[key] = Metric(function, group, needs, better, anchored, slow, quantity)
        return function

    return register


def with_note(found: _Found, note: str) -> _Found:
    """Return a number with one more remark before its note; one without a value as it is.

    Args:
        found: the number.
        note: the remark.
    """
    if found.value is None:
        return found
    return replace(found, note=f"{note}; {found.note}" if found.note else note)


def check_finite(what: str, values: Tensor) -> None:
    """Raise Unavailable if a row is NaN or infinite, with its number.

    Args:
        what: what the rows are, such as "generated".
        values: `(n, *shape)`.
    """
    bad = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero().flatten()
    if len(bad):
        raise Unavailable(
            f"{len(bad)} of {len(values)} {what} are NaN or infinite; row {int(bad[0])}"
        )


def of_equal_size(draws: Any, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Return as many data as generated samples, `(n, d)` each, evenly spaced.

    Args:
        draws: of samples and data.
        limit: at most so many of each.

    Raises:
        Unavailable: if a sample is NaN or infinite.
    """
    check_finite("samples", draws.generated)
    n = min(len(draws.real), len(draws.generated))
    real, generated = (thin(thin({"x": x}, n), limit)["x"] for x in (draws.real, draws.generated))
    return real, generated


def units_of(draws: Any) -> tuple[str, str]:
    """Return the units that samples are compared in, where they are not the data's own.

    Args:
        draws: of samples and data.
    """
    text = "standardised units"
    if draws.sizes:
        text = "standard deviations, categories at a distance of one"
        return text, f"in {text}"
    return ("", "") if draws.units is None else (text, f"in {text}")
