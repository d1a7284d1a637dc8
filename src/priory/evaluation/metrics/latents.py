"""What a pair's latents hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.columns import thin
from priory.evaluation.draws import Draws
from priory.evaluation.latents.collapse import COLLAPSED, collapse_words, coordinate_kl
from priory.evaluation.latents.information import Split, active_units, split_kl
from priory.evaluation.latents.neighbours import knn_hits, linear_probe
from priory.evaluation.metrics.clustering import ROWS as _CLUSTERING
from priory.evaluation.metrics.codes import ROWS as _CODES
from priory.evaluation.metrics.factors import ROWS as _FACTORS
from priory.evaluation.metrics.matching import ROWS as _MATCHING
from priory.evaluation.metrics.metric import Metric, check_finite
from priory.evaluation.record import Kind, Record, mean_record, share_record
from priory.evaluation.sets import Unavailable

_NEIGHBOURS = 5
_THRESHOLD = 0.01
_PROBED = 10_000  # training rows of a linear probe


def kl(draws: Draws) -> Record:
    """Mean KL divergence from q(z given x) to the prior."""
    q = draws.posterior
    note = "one draw of z per datum"
    words: tuple[str, ...] = ()
    dimensions = _dimensions(draws)
    if dimensions is not None:
        dead = int((dimensions < COLLAPSED).sum())
        note += f"; {dead} of {len(dimensions)} dimensions are below {COLLAPSED:g} nats"
        words = collapse_words(dimensions)
    values = (q.log_q - q.log_p).double().cpu()
    return mean_record(
        "kl", values, seed=draws.seed, kind="unbiased", unit="nats", note=note, warnings=words
    )


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
    dimensions = _dimensions(draws)
    words: tuple[str, ...] = ()
    if dimensions is not None:
        words, live = collapse_words(dimensions), int((dimensions >= COLLAPSED).sum())
        if 2 * count < live:
            words += (
                f"{live} dimensions have KL above {COLLAPSED:g} nats: the threshold is for latents "
                "of about unit variance",
            )
    return Record(
        "active_units", float(count), None, draws.n, draws.seed, kind, note=note, warnings=words
    )


def knn_accuracy(draws: Draws) -> Record:
    """Accuracy of nearest neighbours on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    try:
        hits = knn_hits(means, draws.labels, pool, _NEIGHBOURS)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    among = "the other rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"{_NEIGHBOURS} neighbours in the posterior means, among {among}"
    return share_record("knn_accuracy", hits, seed=draws.seed, kind="unbiased", note=note)


def probe_accuracy(draws: Draws) -> Record:
    """Accuracy of logistic regression on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    if pool is not None:
        check_finite("posterior means of training rows", pool[0])
        few = thin({"z": pool[0], "y": pool[1]}, _PROBED)
        pool = (few["z"], few["y"])
    try:
        hits, converged = linear_probe(means, draws.labels, pool, draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    on = "five times four fifths of the rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"multinomial logistic regression on standardised posterior means, fitted to {on}"
    words = () if converged else ("the logistic regression has not converged",)
    return share_record(
        "linear_probe", hits, seed=draws.seed, kind="unbiased", note=note, warnings=words
    )


def _pool(draws: Draws) -> tuple[Tensor, Tensor] | None:
    """Answer the training rows' posterior means and labels, if there are any."""
    if draws.reference is None or "y" not in draws.reference or draws.train_latents is None:
        return None
    return draws.train_latents.mean, draws.reference["y"]


def _dimensions(draws: Draws) -> Tensor | None:
    """Answer the mean KL divergence of each latent dimension, where it can be had."""
    return draws.once("dimensions", lambda: _measure(draws))


def _measure(draws: Draws) -> Tensor | None:
    try:
        found = draws.posterior
    except Unavailable:
        return None
    if found.z.dim() != 2:
        return None
    parts = found.z.split([law.batch_shape[-1] for law in found.posteriors])
    total = torch.zeros(found.z.shape[1:], dtype=torch.float64)
    for z, posterior, prior in zip(parts, found.posteriors, found.priors, strict=True):
        values = coordinate_kl(z, posterior, prior)
        if values is None:
            return None
        total += values.sum(0).cpu()
    return total / len(found.z)


def _split(draws: Draws) -> Split:
    q = draws.posterior
    parts = split_kl(q.log_q, q.log_p, draws.log_aggregate)
    return Split(*(part.cpu() for part in parts))


ROWS: dict[str, Metric] = {
    "kl": Metric(kl, "latents", ("posterior",)),
    "mutual_information": Metric(mutual_information, "latents", ("posterior",)),
    "mismatch": Metric(mismatch, "latents", ("posterior",), "lower"),
    **_MATCHING,
    "active_units": Metric(active, "latents", ("latents",)),
    "knn_accuracy": Metric(knn_accuracy, "latents", ("labels", "latents"), "higher"),
    "linear_probe": Metric(probe_accuracy, "latents", ("labels", "latents"), "higher"),
    **_CLUSTERING,
    **_CODES,
    **_FACTORS,
}
