"""The one judge of every pair.

What only the judging itself needs is imported by it: a help shows the signature alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from priory.data.rows import prepared
from priory.evaluation.isolation import placement, sealed
from priory.evaluation.rows import (
    Columns,
    check,
    digest_of,
    has_splits,
    place,
    read,
    source_of,
    split_of,
)
from priory.evaluation.subject import (
    FEW,
    SAMPLES,
    STEPS,
    CodesFrom,
    build,
    check_background,
    check_counts,
    name_of,
    preparation_of,
    resolve,
    scope_of,
)
from priory.inference.distributed.launch import start
from priory.inference.modules import device_of
from priory.inference.support import check_rows

if TYPE_CHECKING:
    from priory.evaluation.registry import Metric
    from priory.evaluation.report.report import Report
    from priory.evaluation.sample_sets import Sets


def evaluate(
    pair: Any,
    data: Any = None,
    *,
    split: Literal["train", "valid", "test"] = "test",
    particles: int = 1000,
    seed: int = 0,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    n_samples: int = SAMPLES,
    features: Any = "auto",
    steps: int = STEPS,
    few: int = FEW,
    codes: CodesFrom = "auto",
    outliers: Any = None,
    background: Any = None,
    pictures: bool = True,
) -> Report:
    """Judge a pair by draws from it alone, so that every family is judged by the same code.

    The pair is judged in `eval()` mode. Its modes, the parameter store and the state of all random
    generators are as before afterwards: a training run is the same with and without evaluation.
    Under torchrun the ranks share the rows of the bound, and each gets the whole report.

    Args:
        pair: a run, or an object with `model` and `guide`.
        data: a `Data`, one of its splits, columns by name, a data frame or an array of x; a run's
            own if `None`. A run's training rows say how others are prepared: see `docs/data.md`.
        split: which part of a `Data` to judge on: train, valid or test.
        particles: importance samples K per datum, of the bound on log p(x).
        seed: seed of all draws.
        metrics: names of metrics or of groups of them; those that take minutes are measured if
            they are named, or for "all".
        limit: at most so many rows, evenly spaced.
        n_samples: generated samples, and data to compare them with, at most so many of each.
        features: what sample metrics look at: identity, pca, classifier, inception, or a module;
            "auto" takes the data themselves up to 16 dimensions, else a classifier where there are
            labelled training rows, else principal components.
        steps: annealing temperatures, or steps of a chain, of the slow metrics.
        few: how many rows the slow metrics look at, evenly spaced.
        codes: where the points come from that paths join: "encoder" for the guide's, of a flow its
            inverse; "samples" for those of generated samples, which a classifier labels;
            "inversion" for a search by gradients; "auto" takes samples where there is no encoder.
        outliers: data of another kind, or their name, to be distinguished from the pair's own.
        background: a run on mutated data (see `insight.mutate`), for the likelihood ratio.
        pictures: whether to keep what the report's pictures show.

    Raises:
        ValueError: if there are no data, they are NaN or infinite, or a name or number is wrong.

    Example:
        >>> report = evaluate(run, metrics=["nll"], particles=50)
        >>> print(report["nll"])
        nll = ... ± ... nats (upper bound, K = 50, n = ...)...
    """
    from priory.evaluation.draws import Draws
    from priory.evaluation.table import choose

    rows = choose(metrics)
    counts = {"particles": particles, "n_samples": n_samples, "steps": steps, "few": few}
    check_counts(counts, seed)
    began = time.perf_counter()
    origin = getattr(pair, "data", None) if data is None else data
    run, pair, data = resolve(pair, data)
    columns = split_of(data, split, limit)
    reference = _training_rows(data, split)
    build(pair, reference or columns)
    check_background(background, preparation_of(run))
    strange = _strange(outliers, run, data, split, n_samples)
    like = placement(pair, pair.model, pair.guide)
    device = device_of([like, *columns.values()])
    with start(), scope_of(run), sealed(pair, pair.model, pair.guide, device=device):
        _check_rows(pair, like, {f"the {split} rows": columns, "the outliers": strange or {}})
        draws = Draws(
            pair.model,
            pair.guide,
            columns,
            reference=reference,
            features=features,
            mixture=getattr(data, "density", None),
            outliers=strange,
            background=background,
            codes=codes,
            seed=seed,
            **(_units_of(pair, data if run is None else run.data, columns) | counts),
        )
        return assemble(
            draws,
            rows,
            source=source_of(origin, preparation_of(data) or preparation_of(run), split, limit),
            pair=name_of(pair),
            data=str(getattr(data, "name", None) or "data"),
            split=split if has_splits(data) else "",
            began=began,
            pictures=pictures,
            run=run,
        )


def _training_rows(data: Any, split: str) -> Columns | None:
    """Return the training columns, checked; None where there are none beside the split."""
    apart = has_splits(data) and split != "train"
    return check(read(data.train), "train") if apart else None


def _units_of(pair: Any, data: Any, columns: Columns) -> dict[str, Any]:
    """Return the units of standardised data, and the number of levels of each category."""
    from priory.evaluation.sample_sets import Units, sizes_of

    width = columns["x"].shape[1] if "x" in columns and columns["x"].dim() == 2 else 0
    sizes = sizes_of(pair.model, preparation_of(data), width)
    return {"units": Units.of(data), "sizes": sizes}


def _check_rows(pair: Any, like: Tensor | None, sets: Mapping[str, Columns]) -> None:
    for what, columns in sets.items():
        check_rows(pair.model, pair.guide, place(columns, like), what)


def _strange(outliers: Any, run: Any, data: Any, split: str, limit: int) -> Columns | None:
    """Return outliers, prepared as the training rows were; None if none are named."""
    if outliers is None:
        return None
    own = preparation_of(run) or getattr(data, "preparation", None)
    return split_of(prepared(outliers, own, drop=True), split, limit)


def assemble(
    draws: Sets,
    rows: Mapping[str, Metric],
    *,
    pair: str,
    data: str,
    split: str,
    began: float,
    pictures: bool,
    run: Any = None,
    source: str = "",
) -> Report:
    """Measure every row of the table, and return the report.

    Args:
        draws: what is judged; to be read inside `sealed`.
        rows: the metrics by name.
        pair: the pair's name.
        data: the data's.
        split: which part of them; empty if they have none.
        began: when the evaluation did.
        pictures: whether to keep what the pictures show.
        run: the run, whose history and latent space the page shows, if there is one.
        source: what names the judged rows before they were prepared.
    """
    from priory.evaluation.explorer.section import Held
    from priory.evaluation.report.gallery import gather
    from priory.evaluation.report.report import Report
    from priory.evaluation.table import measure

    records = [record for name, row in rows.items() for record in measure(name, row, draws)]
    gallery = gather(draws, getattr(run, "history", ())) if pictures else None
    return Report(
        tuple(records),
        pair=pair,
        data=data,
        split=split,
        n=draws.n,
        seed=draws.seed,
        seconds=time.perf_counter() - began,
        gallery=gallery,
        run=Held(run if pictures else None),
        digest=digest_of(draws.columns),
        source=source,
    )
