"""Whether samples reach all that is known to be there: modes of a mixture, classes of labels."""

from __future__ import annotations

import math
from typing import Any

import torch

from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.sample_sets import Sets, Unavailable
from priory.evaluation.samples.features import extractor_of
from priory.evaluation.samples.modes import Modes, histogram_kl
from priory.evaluation.samples.modes import modes as count_modes


@metric("samples", "generated", better="higher", anchored=True)
def modes(draws: Sets) -> Estimate:
    """Count of a known mixture's modes that the samples reach."""
    found = _modes(draws)
    counts = " ".join(f"{count:.0f}" for count in found.histogram)
    note = f"of {found.total}, with a sample within 3 sd; samples by the nearest mode: {counts}"
    n = len(found.near)
    return Estimate(float(found.found), None, n, "exact", note=note)


@metric("samples", "generated", anchored=True)
def high_quality(draws: Sets) -> Estimate:
    """Share of samples within 3 sd of a mode of a known mixture."""
    found = _modes(draws)
    note = f"{found.perfect:.4f} for a perfect sampler"
    over: tuple[str, ...] = ()
    if found.covariance is not None:
        narrow, *_, wide = [float(v) for v in torch.linalg.eigvalsh(found.covariance)[[0, -1]]]
        note += f"; covariance within the modes is {narrow:.3g} to {wide:.3g} of the true one"
    error = math.sqrt(found.perfect * (1 - found.perfect) / len(found.near))
    if float(found.near.mean()) > found.perfect + 3 * error:
        over = ("more samples within 3 sd than a perfect sampler has: they are over-concentrated",)
    return Estimate.share(found.near, kind="unbiased", note=note, warnings=over)


@metric("samples", "generated", better="lower", anchored=True)
def mode_kl(draws: Sets) -> Estimate:
    """KL divergence from the samples' shares of a known mixture's modes to the true ones."""
    found, n = _modes(draws), len(draws.generated)
    note = f"by the nearest mode; biased upwards by about {(found.total - 1) / (2 * n):.2g}"
    return Estimate(found.kl, found.kl_se, n, "biased", unit="nats", note=note)


@metric("samples", "generated", "train", better="lower", anchored=True)
def class_kl(draws: Sets) -> Estimate:
    """KL divergence from the samples' shares of the classes to those of the training rows."""
    check_finite("samples", draws.generated)
    features = extractor_of(draws)
    classes, truth = features.classes(draws.generated), features.frequencies
    if truth is None:
        raise Unavailable(f"the features ({features.name}) know no frequencies of classes")
    counts = classes.bincount(minlength=len(truth))
    kl, se = histogram_kl(counts, truth)
    n = len(draws.generated)
    far = 0.5 * float((counts / n - truth).abs().sum())
    note = (
        f"total variation {far:.3g}; {int((counts > 0).sum())} of {len(truth)} classes generated; "
        f"classes by the classifier of the {features.text}; biased upwards by about "
        f"{(len(truth) - 1) / (2 * n):.2g}"
    )
    return Estimate(kl, se, n, "biased", unit="nats", note=note)


def mixture_of(draws: Sets) -> Any:
    """Return the mixture that the data are known to come from, with `centres` and `sd`.

    Args:
        draws: those that may have a `mixture`.

    Raises:
        Unavailable: if none is known.
    """
    mixture = getattr(draws, "mixture", None)
    if mixture is None:
        raise Unavailable("the data come from no mixture whose modes are known (ring, grid)")
    return mixture


def _modes(draws: Sets) -> Modes:
    mixture = mixture_of(draws)
    check_finite("samples", draws.generated)
    try:
        return draws.once(
            "modes", lambda: count_modes(draws.generated, mixture.centres, mixture.sd)
        )
    except ValueError as error:
        raise Unavailable(str(error)) from error
