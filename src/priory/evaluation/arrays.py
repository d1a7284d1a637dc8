"""The judge of samples that no pair of ours has drawn: two arrays will do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from priory.data.columns import features_of, is_frame
from priory.data.files import read_frame
from priory.data.inputs import in_memory
from priory.data.rows import prepared
from priory.evaluation.isolation import sealed
from priory.evaluation.judging import assemble
from priory.evaluation.rows import check, has_splits, read, rows_of, split_of
from priory.evaluation.subject import SAMPLES, check_counts, preparation_of

if TYPE_CHECKING:
    from priory.evaluation.report.report import Report


def evaluate_samples(
    generated: Any,
    data: Any,
    *,
    train: Any = None,
    split: Literal["train", "valid", "test"] = "test",
    seed: int = 0,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    n_samples: int = SAMPLES,
    features: Any = "auto",
    pictures: bool = True,
    name: str = "samples",
) -> Report:
    """Judge samples of any origin against data, by the metrics that need nothing else.

    Args:
        generated: the samples, `(m, *shape)`: an array, a split, or columns with x; in the
            data's own units, as `run.sample` draws them, if they are no split.
        data: what to compare them with: a `Data`, one of its splits, columns or an array.
        train: training rows, for memorisation and features; a `Data`'s own if `None`.
        split: which part of a `Data` to compare with.
        seed: seed of all draws.
        metrics: names of metrics or of groups of them; those that take no minutes if `None`.
        limit: at most so many rows of the data, evenly spaced.
        n_samples: at most so many rows of each set are compared.
        features: what sample metrics look at, as in `evaluate`.
        pictures: whether to keep what the report's pictures show.
        name: of the samples, for the report's title.

    Raises:
        ValueError: if a set is empty, NaN or infinite, or their shapes differ.

    Example:
        >>> report = evaluate_samples(fake, real, metrics=["mmd", "energy"])
    """
    from priory.evaluation.sample_sets import Sets, Units, sizes_of
    from priory.evaluation.table import choose

    rows = choose(metrics)
    counts = {"n_samples": n_samples}
    check_counts(counts, seed)
    began = time.perf_counter()
    if has_splits(data) and split == "test" and not len(data.test):
        split = "train"
    columns = split_of(data, split, limit)
    like = preparation_of(data)
    generated, train = (_prepared(given, like) for given in (generated, train))
    if train is None and has_splits(data) and split != "train":
        train = data.train
    reference = None if train is None else check(read(train), "train")
    judged = _like(check(read(generated), "samples"), columns)
    if reference is not None:
        reference |= {"x": _like(reference, columns)}
    with sealed(device=torch.device("cpu")):
        sets = Sets(
            columns,
            judged,
            reference=reference,
            features=features,
            mixture=getattr(data, "density", None),
            seed=seed,
            units=Units.of(data),
            sizes=sizes_of(None, like),
            **counts,
        )
        return assemble(
            sets,
            rows,
            pair=name,
            data=str(getattr(data, "name", None) or "data"),
            split=split if has_splits(data) else "",
            began=began,
            pictures=pictures,
        )


def _prepared(given: Any, preparation: Any) -> Any:
    """Return rows in the order and the units of the data, where these were standardised, say."""
    if given is None or preparation is None:
        return given
    if preparation_of(given) is not None:
        return prepared(given, preparation)
    given = in_memory(given, preparation)
    given = read_frame(given) if is_frame(given) else given
    columns = given if isinstance(given, Mapping) else {"x": given}
    if "x" not in columns or "index" in columns:  # as a split serves them: prepared already
        return given
    return {**columns, "x": preparation.standardise(columns["x"], features_of(columns))}


def _like(given: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor:
    """Return x in the shape and dtype of the data's x, if it has as many numbers per row."""
    for what, found in (("samples", given), ("data", columns)):
        if "x" not in found:
            raise ValueError(f"the {what} have no column x, only {', '.join(found)}")
    x, like = given["x"], columns["x"]
    levels = bool((x == x.round()).all()) and 1 < float(x.max()) <= 255 and float(x.min()) >= 0
    if levels and float(like.min()) >= 0 and float(like.max()) <= 1:
        raise ValueError(
            f"the samples are integers up to {float(x.max()):g}, and the data lie in [0, 1]; "
            "give pixels 0..255 as uint8, or divide them by 255"
        )
    if rows_of(x).shape[1] != rows_of(like).shape[1]:
        raise ValueError(
            f"expected rows of shape {tuple(like.shape[1:])} as in the data, got "
            f"{tuple(x.shape[1:])}"
        )
    return x.reshape(len(x), *like.shape[1:]).to(like)
