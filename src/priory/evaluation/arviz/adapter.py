"""From a pair to ArviZ: posterior, predictive and prior draws, and a log likelihood for LOO."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from priory import __version__
from priory.evaluation.arviz.container import (
    Array,
    Groups,
    data_named,
    draws_named,
    elpd,
    import_arviz,
    inference_data,
    pointwise,
)
from priory.evaluation.arviz.replicates import (
    Replicates,
    bytes_per_row,
    importance_weights,
    replicate,
)
from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, sealed
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, has_splits, split_of, thin
from priory.evaluation.sample_sets import Units
from priory.evaluation.subject import build, check_counts, name_of, resolve, scope_of
from priory.inference.modules import device_of

ROOM = 2**30  # bytes of draws that are made without being asked for by `rows`
_MEANING = (
    "2 log p^(x) - log w, w = p(x, z) / q(z | x): arviz.loo makes log p^(x) of it, the "
    "Pareto-smoothed importance-weighted bound; not log p(x | z)"
)


def to_arviz(
    pair: Any,
    draws: int = 200,
    data: Any = None,
    split: Literal["train", "valid", "test"] = "test",
    rows: int | Sequence[int] | None = None,
    prior: int | None = None,
    seed: int = 0,
) -> Any:
    r"""Return a pair's draws as ArviZ takes them: InferenceData, or a DataTree from ArviZ 1.0 on.

    Groups: `posterior` (each latent z ~ q(z | x)), `posterior_predictive` (x ~ p(x | z)),
    `prior` and `prior_predictive` (one draw of the model per draw and row), `log_likelihood`,
    `sample_stats` (`lp` = log p(x, z), `log_q`, `log_weight` = `lp` - `log_q`, and each row's
    `pareto_k`), `observed_data`, and `constant_data` (columns that the model doesn't observe, such
    as labels).
    Dimensions are `chain` (1), `draw`, `row` (the row's number in the split), then the event's. A
    group that the pair cannot give is left out, and the attribute `no_<group>` says why. Values of
    standardised data, and densities of them, are in the data's own units.

    The parameters are point estimates and each latent belongs to one datum, so that leaving x_i
    out leaves its own latent's prior behind: the leave-one-out predictive density is p(x_i) itself.
    `log_likelihood` is made so that `arviz.loo` and `arviz.compare` of the answer find it,

    .. math:: \mathrm{elpd} = \sum_i \log \frac{1}{S} \sum_s \tilde w_{is}, \qquad
        w_{is} = p(x_i, z_{is}) / q(z_{is} \mid x_i),

    w~ Pareto-smoothed, with the guide's own k-hat by datum. log p(x | z) in its place would
    have LOO average 1 / p(x | z) over q, which is 1 / p(x) for an exact guide alone, and then
    with a tail so heavy that the average is rarely near its limit; for any other guide the limit
    is log p(x) - log E_p(z)[q(z | x) / p(z | x)], minus infinity if the guide is too wide.

    Magnusson, Andersen, Jonasson and Vehtari 2019, Bayesian leave-one-out cross-validation for
    large data; Merkle, Furr and Rabe-Hesketh 2019, Bayesian comparison of latent variable models.

    Args:
        pair: a run, or an object with `model` and `guide`.
        draws: posterior draws per row.
        data: a `Data`, one of its splits, columns by name or an array of x; a run's own if `None`.
        split: which part of a `Data`.
        rows: how many rows, evenly spaced, or their numbers; all if `None`.
        prior: draws from the model per row; as many as `draws` if `None`, 0 for none.
        seed: seed of all draws.

    Raises:
        ValueError: if a number is out of range, or all rows would take more than `ROOM` bytes
            (1 GiB: draws x rows x numbers per row) and `rows` doesn't say that it is meant.
        ImportError: if ArviZ isn't installed, or is of a generation that we don't know.

    Example:
        >>> idata = to_arviz(run, rows=50)
        >>> idata.posterior["z"].dims
        ('chain', 'draw', 'row', 'z_dim_0')
    """
    import_arviz()
    check_counts({"draws": draws}, seed)
    if prior is not None and prior < 0:
        raise ValueError(f"prior must not be negative, got {prior}; 0 leaves them out")
    generated, groups = draws if prior is None else prior, {}
    with _opened(pair, data, split, rows, seed) as (source, numbers, attrs):
        if rows is None:
            _check_room(source, draws + generated)
        given = {"x": _own(source)} if "x" in source.columns else {}
        try:
            found = replicate(source, draws)
        except Unavailable as reason:
            attrs |= _absent(reason, "posterior", "posterior_predictive", "log_likelihood")
        else:
            given = found.given
            groups["posterior"] = draws_named(found.latents, found.rowwise)
            groups["posterior_predictive"] = draws_named(found.observed, found.rowwise)
            if not found.latents:
                attrs |= _absent("the model has no latents; arviz.loo needs reff=1", "posterior")
            try:
                name = "_".join(source.density.observed)
                likelihood, k_hats = _likelihood(found, name)
                groups, attrs = {**groups, **likelihood}, {**attrs, **k_hats}
            except (Unavailable, ValueError) as reason:
                attrs |= _absent(reason, "log_likelihood")
        if generated:
            slept = replicate(source, generated, asleep=True)
            groups["prior"] = draws_named(slept.latents, slept.rowwise)
            groups["prior_predictive"] = draws_named(slept.observed, slept.rowwise)
        rest = {k: v.cpu().numpy() for k, v in source.columns.items() if k not in {*given, "index"}}
    groups |= {"observed_data": data_named(given), "constant_data": data_named(rest)}
    groups = {name: variables for name, variables in groups.items() if variables}
    return inference_data(groups, {"row": numbers}, {**attrs, "draws": draws})


def loo(
    pair: Any,
    draws: int = 1000,
    data: Any = None,
    split: Literal["train", "valid", "test"] = "test",
    rows: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Any:
    r"""Return a pair's expected log predictive density as `arviz.loo` would, to be compared.

    Like `arviz.loo(to_arviz(pair), pointwise=True)`, but of log weights alone, so that all rows and
    many draws fit into memory. `arviz.compare` takes the answers of several pairs on the same rows.
    `p_loo` is log(1 + chi^2(q, p(z | x))) summed over the data: what the guide lacks, not a
    number of parameters. Where k-hat is beyond its threshold the answer is too low, and more so
    than the unsmoothed bound of `evaluate`: take more draws. See `to_arviz` for what is estimated.

    Args:
        pair: a run, or an object with `model` and `guide`; or what `to_arviz` returns, to which
            the other arguments don't apply.
        draws: importance samples per row, at least 25.
        data: as in `to_arviz`.
        split: as in `to_arviz`.
        rows: as in `to_arviz`.
        seed: seed of all draws.

    Raises:
        ValueError: if the pair has no density, or a number is out of range.
        ImportError: if ArviZ isn't installed, or is of a generation that we don't know.

    Example:
        >>> int(loo(run, rows=12).n_data_points)
        12
    """
    import_arviz()
    if hasattr(pair, "log_likelihood") and not hasattr(pair, "model"):
        return elpd(pair)
    check_counts({"draws": draws}, seed)
    with _opened(pair, data, split, rows, seed) as (source, numbers, attrs):
        try:
            name = "_".join(source.density.observed)
        except Unavailable as reason:
            raise ValueError(f"loo needs log p(x): {reason}") from reason
        weights = importance_weights(source, draws)
    values, _ = pointwise(weights)
    dims = ("chain", "draw", "row")
    groups: Groups = {
        "posterior": {"log_weight": (dims, weights[None])},  # ArviZ looks at its chains
        "log_likelihood": {name: (dims, values[None])},
    }
    return elpd(inference_data(groups, {"row": numbers}, attrs))


@contextmanager
def _opened(
    pair: Any, data: Any, split: str, rows: int | Sequence[int] | None, seed: int
) -> Iterator[tuple[Draws, Array, dict[str, Any]]]:
    """Seal a pair, and return its source of draws, the rows' numbers, and what is known of it."""
    run, pair, data = resolve(pair, data)
    columns, numbers = _chosen(split_of(data, split), rows)
    build(pair, columns)
    like = placement(pair, pair.model, pair.guide)
    device = device_of([like, *columns.values()])
    attrs = {
        "inference_library": "priory",
        "inference_library_version": __version__,
        "posterior_kind": "amortised variational",
        "pair": name_of(pair),
        "data": str(getattr(data, "name", None) or "data"),
        "split": split if has_splits(data) else "",
        "seed": seed,
    }
    with scope_of(run), sealed(pair, pair.model, pair.guide, device=device):
        units = Units.of(data if run is None else getattr(run, "data", None))
        yield Draws(pair.model, pair.guide, columns, seed=seed, units=units), numbers, attrs


def _own(source: Draws) -> Array:
    """Return x in the data's own units."""
    x = source.x
    return np.asarray(x.cpu() if source.units is None else source.units.own(x))


def _chosen(columns: Columns, rows: int | Sequence[int] | None) -> tuple[Columns, Array]:
    """Return the rows that are wanted, and their numbers."""
    n = len(next(iter(columns.values())))
    if rows is None or isinstance(rows, int):
        if rows is not None and rows < 1:
            raise ValueError(f"rows must be at least 1, or the rows' numbers, got {rows}")
        return thin(columns, rows), thin({"row": torch.arange(n)}, rows)["row"].numpy()
    numbers = np.asarray(rows)
    whole = numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "iu"
    if not whole or numbers.min() < 0 or numbers.max() >= n:
        raise ValueError(f"rows must be a number, or numbers from 0 to {n - 1}, got {rows}")
    index = torch.as_tensor(numbers.astype(np.int64))
    return {name: value[index.to(value.device)] for name, value in columns.items()}, numbers


def _check_room(source: Draws, draws: int) -> None:
    """Raise a ValueError if the draws of all rows would take more than `ROOM` bytes."""
    row = bytes_per_row(source)
    total = draws * source.n * row
    if total <= ROOM:
        return
    raise ValueError(
        f"the draws of all {source.n:,} rows would take {total / 2**30:.1f} GiB ({draws} draws of "
        f"guide and model x {source.n:,} rows x {row:,.0f} bytes), more than the "
        f"{ROOM / 2**30:g} GiB that are taken unasked; give "
        f"rows={max(1, int(ROOM / draws / row))}, the rows' numbers, or fewer draws"
    )


def _likelihood(found: Replicates, name: str) -> tuple[Groups, dict[str, Any]]:
    """Return the groups that come of densities, and what their k-hats say."""
    dims = ("chain", "draw", "row")
    log_w = found.densities["lp"] - found.densities["log_q"]
    values, k_hat = pointwise(log_w)
    stats = {**found.densities, "log_weight": log_w}
    groups: Groups = {
        "log_likelihood": {name: (dims, values[None])},
        "sample_stats": {
            **{key: (dims, value[None]) for key, value in stats.items()},
            "pareto_k": (("row",), k_hat),
        },
    }
    threshold = min(1 - 1 / math.log10(len(log_w)), 0.7)
    bad = float((k_hat > threshold).mean())
    said = {
        "pareto_k_threshold": threshold,
        "pareto_k_max": float(k_hat.max()),
        "pareto_k_bad": bad,
    }
    return groups, {**said, "log_likelihood_is": _MEANING}


def _absent(reason: object, *groups: str) -> dict[str, str]:
    return {f"no_{group}": str(reason) for group in groups}
