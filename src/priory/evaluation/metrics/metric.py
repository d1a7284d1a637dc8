"""What a row of the table of metrics says, and the small steps that all metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from priory.evaluation.likelihood.quantity import Quantity
from priory.evaluation.record import Record
from priory.evaluation.sets import Unavailable

Need = Literal[
    "background",
    "density",
    "dreams",
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
GROUPS: tuple[str, ...] = get_args(Group)


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Args:
        function: computes the record from draws.
        group: the family that it is listed and asked for under.
        needs: the attributes of `Draws` that it reads; where one is unavailable, the metric is not
            applicable for that reason.
        better: the direction in which the number improves, if it has one.
        anchored: whether it compares dreams with data, and is to be given for the two anchors too.
        slow: whether it takes minutes, so that it is measured only when it is asked for.
        quantity: says what exactly is measured, and what a reader must know of it, if anything.
    """

    function: Callable[[Any], Record]
    group: Group
    needs: tuple[Need, ...]
    better: Literal["lower", "higher"] | None = None
    anchored: bool = False
    slow: bool = False
    quantity: Callable[[Any], tuple[str, str]] | None = None


def with_note(record: Record, note: str) -> Record:
    """Answer a record with one more remark before its note; one without a value as it is.

    Args:
        record: the record.
        note: the remark.
    """
    if record.value is None:
        return record
    return replace(record, note=f"{note}; {record.note}" if record.note else note)


def check_finite(what: str, values: Tensor) -> None:
    """Raise Unavailable if a row is not finite, with its number.

    Args:
        what: what the rows are, such as "dreams".
        values: `(n, *shape)`.
    """
    bad = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero().flatten()
    if len(bad):
        raise Unavailable(f"{len(bad)} of {len(values)} {what} are not finite; row {int(bad[0])}")


def likelihood_of(draws: Any) -> tuple[str, str]:
    """Answer what the pair's log likelihood is, and what a reader must know of it.

    Args:
        draws: of the pair.
    """
    quantity: Quantity = draws.quantity
    remarks = []
    if len(quantity.observed) > 1:
        remarks.append(f"joint: of {', '.join(quantity.observed)} together, {quantity.name}")
    elif quantity.name != "log p(x)":
        remarks.append(f"of {quantity.name}")
    if draws.units is not None and quantity.is_density:
        remarks.append("x in its own units, standardised for the pair")
    return str(quantity), "; ".join(remarks)


def units_of(draws: Any) -> tuple[str, str]:
    """Answer the units that samples are compared in, where they are not the data's own.

    Args:
        draws: of samples and data.
    """
    text = "standardised units"
    return ("", "") if draws.units is None else (text, f"in {text}")
