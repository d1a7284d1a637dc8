"""What a pair's latents hold."""

from __future__ import annotations

import math

from priory.evaluation.draws import Draws
from priory.evaluation.latents.information import Split, active_units, knn_hits, split_kl
from priory.evaluation.metrics.metric import Metric, check_finite
from priory.evaluation.record import Kind, Record, mean_record
from priory.evaluation.sets import Unavailable

_NEIGHBOURS = 5
_THRESHOLD = 0.01


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
    check_finite("posterior means", draws.latents.mean)
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


def _split(draws: Draws) -> Split:
    q = draws.posterior
    parts = split_kl(q.log_q, q.log_p, draws.log_aggregate)
    return Split(*(part.cpu() for part in parts))


ROWS: dict[str, Metric] = {
    "kl": Metric(kl, "latents", ("posterior",)),
    "mutual_information": Metric(mutual_information, "latents", ("posterior",)),
    "mismatch": Metric(mismatch, "latents", ("posterior",), "lower"),
    "active_units": Metric(active, "latents", ("latents",)),
    "knn_accuracy": Metric(knn_accuracy, "latents", ("labels", "latents"), "higher"),
}
