"""What a pair's latents hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.latents.collapse import COLLAPSED, collapse_words, coordinate_kl
from priory.evaluation.latents.information import Split, split_kl
from priory.evaluation.latents.information import active_units as count_active
from priory.evaluation.latents.neighbours import knn_hits
from priory.evaluation.latents.neighbours import linear_probe as probe_hits
from priory.evaluation.record import Estimate, Kind
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import Unavailable
from priory.evaluation.samples.discrepancy import mmd2
from priory.evaluation.samples.pairwise import median_bandwidths, stream
from priory.evaluation.samples.transport import sliced_wasserstein2

_NEIGHBOURS = 5
_THRESHOLD = 0.01
_PROBED = 10_000  # training rows of a linear probe
_DIRECTIONS = 32  # random stream


@metric("latents", "posterior")
def kl(draws: Draws) -> Estimate:
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
    return Estimate.mean(values, kind="unbiased", unit="nats", note=note, warnings=words)


@metric("latents", "posterior")
def mutual_information(draws: Draws) -> Estimate:
    """I_q(x; z), what a latent tells of its datum."""
    ceiling = math.log(draws.n)
    return Estimate.mean(
        _split(draws).mutual_information,
        kind="biased",
        unit="nats",
        note=f"biased downwards: cannot exceed ln n = {ceiling:.2f}",
    )


@metric("latents", "posterior", better="lower")
def mismatch(draws: Draws) -> Estimate:
    """KL divergence from the aggregated posterior q(z) to the prior."""
    return Estimate.mean(
        _split(draws).mismatch,
        kind="biased",
        unit="nats",
        note="KL(q(z), p(z)); with the mutual information it adds up to the kl; biased upwards",
    )


@metric("latents", "latents", better="lower")
def latent_mmd(draws: Draws) -> Estimate:
    """Squared maximum mean discrepancy between the data's codes and draws of the prior."""
    codes, prior, _ = _both(draws)
    try:
        value, se = mmd2(codes, prior, median_bandwidths(prior))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        "squared; RBF kernels around the prior's median distance; 0 in expectation where the codes "
        f"follow the prior; one code for each of {len(codes)} data, against as many of the prior"
    )
    return Estimate(value, se, len(codes), "unbiased", note=note)


@metric("latents", "latents", better="lower")
def latent_sliced(draws: Draws) -> Estimate:
    """Squared Wasserstein-2 distance between codes and prior, averaged over directions."""
    codes, prior, other = _both(draws)
    try:
        value, se = sliced_wasserstein2(codes, prior, stream(draws.seed, _DIRECTIONS))
        floor, _ = sliced_wasserstein2(other, prior, stream(draws.seed, _DIRECTIONS))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"squared; the prior against itself: {floor:.2g}; one code for each of {len(codes)} data"
    return Estimate(value, se, len(codes), "biased", note=note)


@metric("latents", "latents")
def active_units(draws: Draws) -> Estimate:
    """Count of latent dimensions that vary with the data."""
    if draws.n < 2:
        raise Unavailable(f"needs at least 2 rows, got {draws.n}")
    check_finite("posterior means", draws.latents.mean)
    count, variances = count_active(draws.latents.mean, _THRESHOLD)
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
    return Estimate(float(count), None, draws.n, kind, note=note, warnings=words)


@metric("latents", "labels", "latents", better="higher")
def knn_accuracy(draws: Draws) -> Estimate:
    """Accuracy of nearest neighbours on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    try:
        hits = knn_hits(means, draws.labels, pool, _NEIGHBOURS)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    among = "the other rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"{_NEIGHBOURS} neighbours in the posterior means, among {among}"
    return Estimate.share(hits, kind="unbiased", note=note)


@metric("latents", "labels", "latents", better="higher")
def linear_probe(draws: Draws) -> Estimate:
    """Accuracy of logistic regression on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    if pool is not None:
        check_finite("posterior means of training rows", pool[0])
        few = thin({"z": pool[0], "y": pool[1]}, _PROBED)
        pool = (few["z"], few["y"])
    try:
        hits, converged = probe_hits(means, draws.labels, pool, draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    on = "five times four fifths of the rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"multinomial logistic regression on standardised posterior means, fitted to {on}"
    words = () if converged else ("the logistic regression has not converged",)
    return Estimate.share(hits, kind="unbiased", note=note, warnings=words)


def _both(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, and two sets of as many draws of the prior, `(n, d)` each."""
    return draws.once("codes and prior", lambda: _drawn(draws))


def _drawn(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    z = draws.latents.z
    if not z.is_floating_point():
        raise Unavailable(f"{draws.latent_site} holds integers: there is no distance")
    check_finite("codes", z)
    codes = thin({"z": rows_of(z)}, draws.n_samples)["z"].cpu()
    prior = rows_of(draws.generate(draws.latent_site, 2 * len(codes)))
    return codes, prior[: len(codes)], prior[len(codes) :]


def _pool(draws: Draws) -> tuple[Tensor, Tensor] | None:
    """Return the training rows' posterior means and labels, if there are any."""
    if draws.reference is None or "y" not in draws.reference or draws.train_latents is None:
        return None
    return draws.train_latents.mean, draws.reference["y"]


def _dimensions(draws: Draws) -> Tensor | None:
    """Return the mean KL divergence of each latent dimension, where it can be had."""
    return draws.once("dimensions", lambda: _measure(draws))


def _measure(draws: Draws) -> Tensor | None:
    try:
        found = draws.posterior
    except Unavailable:
        return None
    if found.z.dim() != 2:
        return None
    parts = found.z.split([distribution.batch_shape[-1] for distribution in found.posteriors])
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
