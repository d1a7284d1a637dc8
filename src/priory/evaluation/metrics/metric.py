"""What a row of the table of metrics says, and the small steps that all metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

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
    """

    function: Callable[[Any], Record]
    group: Group
    needs: tuple[Need, ...]
    better: Literal["lower", "higher"] | None = None
    anchored: bool = False
    slow: bool = False


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
    bad = (~values.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise Unavailable(f"{len(bad)} of {len(values)} {what} are not finite; row {int(bad[0])}")
