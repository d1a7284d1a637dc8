"""The table of metrics. To add one: write a function of draws, and give it a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from priory.evaluation.draws import Draws, Unavailable
from priory.evaluation.latents import (
    Split,
    active_units,
    knn_hits,
    split_kl,
)
from priory.evaluation.record import Kind, Record, mean_record, not_applicable
from priory.evaluation.samples import mmd2
from priory.names import suggestion

_NEIGHBOURS = 5
_THRESHOLD = 0.01

Need = Literal[
    "density", "log_weight", "latents", "posterior", "dreams", "labels", "reconstructions"
]


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Args:
        function: computes the record from draws.
        needs: the attributes of `Draws` that it reads; where one is unavailable, the metric is not
            applicable for that reason.
        better: the direction in which the number improves, if it has one.
        anchored: whether it compares dreams with data, and is to be given for the two anchors too.
    """

    function: Callable[[Draws], Record]
    needs: tuple[Need, ...]
    better: Literal["lower", "higher"] | None = None
    anchored: bool = False


def nll(draws: Draws) -> Record:
    """Negative log likelihood, by the K-sample bound; exact where there are no latents."""
    exact = not draws.density.latents
    values = draws.log_weight.log_likelihood
    record = mean_record(
        "nll",
        -values,
        seed=draws.seed,
        kind="exact" if exact else "upper bound",
        unit="nats",
        particles=None if exact else draws.particles,
    )
    if record.value is None:
        return record
    features = draws.x[0].numel()
    bits = record.value / (features * math.log(2))
    return _with_note(record, f"{bits:.4g} bits per dim over {features} features")


def elbo(draws: Draws) -> Record:
    """Evidence lower bound, from the same log weights."""
    return mean_record(
        "elbo",
        draws.log_weight.elbo,
        seed=draws.seed,
        kind="lower bound",
        unit="nats",
        particles=draws.particles,
        note="bounds log p(x); averaged over the K samples of each datum",
    )


def ess(draws: Draws) -> Record:
    """Effective share of the K importance samples: how far to trust the nll."""
    if not draws.density.latents:
        raise Unavailable("the model has no latents: log p(x) is exact, nothing is sampled")
    share = draws.log_weight.ess / draws.particles
    record = mean_record("ess", share, seed=draws.seed, kind="biased", particles=draws.particles)
    poor = float((draws.log_weight.ess < 10).double().mean())
    note = "effective share of the K samples"
    if draws.particles > 10 and poor > 0.1:
        note += f"; {poor:.0%} of the data have fewer than 10 effective samples: take a larger K"
    return _with_note(record, note)


def kl(draws: Draws) -> Record:
    """Mean KL divergence from q(z given x) to the prior."""
    q = draws.posterior
    note = "one draw of z per datum"
    values = (q.log_q - q.log_p).double().cpu()
    return mean_record("kl", values, seed=draws.seed, kind="unbiased", unit="nats", note=note)


def mutual_information(draws: Draws) -> Record:
    """I_q(x; z), what a latent tells of its datum."""
    ceiling = math.log(draws.n)
    return mean_record(
        "mutual_information",
        _split(draws).mutual_information,
        seed=draws.seed,
        kind="biased",
        unit="nats",
        note=f"biased downwards: cannot exceed ln n = {ceiling:.2f}",
    )


def mismatch(draws: Draws) -> Record:
    """KL divergence from the aggregated posterior q(z) to the prior."""
    return mean_record(
        "mismatch",
        _split(draws).mismatch,
        seed=draws.seed,
        kind="biased",
        unit="nats",
        note="KL(q(z), p(z)); with the mutual information it adds up to the kl; biased upwards",
    )


def active(draws: Draws) -> Record:
    """Count of latent dimensions that vary with the data."""
    if draws.n < 2:
        raise Unavailable(f"needs at least 2 rows, got {draws.n}")
    _check_finite("posterior means", draws.latents.mean)
    count, variances = active_units(draws.latents.mean, _THRESHOLD)
    note = f"of {len(variances)}; the variance of E[z | x] exceeds {_THRESHOLD}"
    kind: Kind = "exact" if draws.latents.exact else "biased"
    return Record("active_units", float(count), None, draws.n, draws.seed, kind, note=note)


def knn_accuracy(draws: Draws) -> Record:
    """Accuracy of nearest neighbours on posterior means."""
    means, train = draws.latents.mean, draws.train_latents
    pool = None
    if train is not None and draws.reference is not None and "y" in draws.reference:
        pool = (train.mean, draws.reference["y"])
    try:
        hits = knn_hits(means, draws.labels, pool, _NEIGHBOURS)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    among = "the other rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"{_NEIGHBOURS} neighbours in the posterior means, among {among}"
    return mean_record("knn_accuracy", hits, seed=draws.seed, kind="unbiased", note=note)


def reconstruction(draws: Draws) -> Record:
    """Mean squared error of the data against their reconstructions."""
    return mean_record(
        "reconstruction",
        draws.reconstructions.error,
        seed=draws.seed,
        kind="unbiased",
        unit="per feature",
        note="squared error of the mean of p(x | z) at one z ~ q(z | x)",
    )


def mmd(draws: Draws) -> Record:
    """Squared maximum mean discrepancy between dreams and data."""
    _check_finite("dreams", draws.dreams)
    try:
        value, se = mmd2(draws.dreams, draws.real, draws.bandwidths)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"squared; {len(draws.dreams)} dreams against {len(draws.real)} data"
    return Record("mmd", value, se, len(draws.real), draws.seed, "unbiased", note=note)


METRICS: dict[str, Metric] = {
    "nll": Metric(nll, ("density", "log_weight"), "lower"),
    "elbo": Metric(elbo, ("density", "log_weight"), "higher"),
    "ess": Metric(ess, ("density", "log_weight")),
    "kl": Metric(kl, ("posterior",)),
    "mutual_information": Metric(mutual_information, ("posterior",)),
    "mismatch": Metric(mismatch, ("posterior",), "lower"),
    "active_units": Metric(active, ("latents",)),
    "knn_accuracy": Metric(knn_accuracy, ("labels", "latents"), "higher"),
    "reconstruction": Metric(reconstruction, ("reconstructions",), "lower"),
    "mmd": Metric(mmd, ("dreams",), "lower", anchored=True),
}

ANCHORS: dict[Literal["real", "baseline"], str] = {
    "real": "anchor: other real data in place of the dreams",
    "baseline": "anchor: each feature drawn by itself from its marginal",
}


def choose(names: Sequence[str] | None) -> dict[str, Metric]:
    """Answer the rows of the named metrics, in the table's order; all if `None`.

    Raises:
        ValueError: if a name is unknown, with the nearest one.
    """
    if names is None:
        return METRICS
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in METRICS:
            hint = suggestion(name, METRICS)
            raise ValueError(f"unknown metric {name!r}{hint} (there are {', '.join(METRICS)})")
    return {name: row for name, row in METRICS.items() if name in wanted}


def measure(name: str, metric: Metric, draws: Draws) -> list[Record]:
    """Answer a metric's record, and those of its anchors.

    Args:
        name: the metric's name.
        metric: its row.
        draws: what it reads.
    """
    records = [_measure(name, metric, draws)]
    for anchor, note in ANCHORS.items() if metric.anchored else ():
        record = _measure(name, metric, draws.anchored(anchor))
        records.append(_renamed(record, f"{name}_{anchor}", note))
    return records


def _measure(name: str, metric: Metric, draws: Draws) -> Record:
    try:
        for need in metric.needs:
            getattr(draws, need)
        record = metric.function(draws)
        return _with_note(record, "; ".join(draws.flags)) if draws.flags else record
    except Unavailable as reason:
        return not_applicable(name, str(reason), n=draws.n, seed=draws.seed)


def _renamed(record: Record, name: str, note: str) -> Record:
    if record.value is None:
        return replace(record, name=name)
    return replace(record, name=name, note=note)


def _with_note(record: Record, note: str) -> Record:
    if record.value is None:
        return record
    return replace(record, note=f"{note}; {record.note}" if record.note else note)


def _check_finite(what: str, values: Tensor) -> None:
    bad = (~values.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise Unavailable(f"{len(bad)} of {len(values)} {what} are not finite; row {int(bad[0])}")


def _split(draws: Draws) -> Split:
    q = draws.posterior
    parts = split_kl(q.log_q, q.log_p, draws.log_aggregate)
    return Split(*(part.cpu() for part in parts))
