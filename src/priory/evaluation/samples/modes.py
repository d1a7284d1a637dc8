"""Which modes of a known mixture the samples reach, and how often each class is generated."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.divergences import squared_distances
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.sample_sets import Sets, once
from priory.evaluation.samples.features import extractor_of

_REACH = 3.0  # standard deviations


class Modes(NamedTuple):
    """How samples spread over the modes of a mixture of equally likely round Gaussians.

    Args:
        found: modes that have a sample within 3 sd.
        total: modes that there are.
        near: whether each sample is within 3 sd of a centre, `(n,)`.
        perfect: the mean of `near` for a perfect sampler.
        histogram: samples by the nearest centre, `(modes,)`.
        kl: KL from the histogram to the uniform one, in nats.
        kl_se: its standard error.
        covariance: of the residuals within 3 sd of a centre, over the true variance of what is
            there, `(d, d)`: the identity for a perfect sampler; `None` if nothing is there.
    """

    found: int
    total: int
    near: Tensor
    perfect: float
    histogram: Tensor
    kl: float
    kl_se: float
    covariance: Tensor | None

    @property
    def spread(self) -> float | None:
        """Variance within the modes over the true one."""
        return None if self.covariance is None else float(self.covariance.diagonal().mean())


@metric("samples", "generated", better="higher", anchored=True, name="modes")
def reached_modes(draws: Sets) -> Estimate:
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
    over: tuple[Doubt, ...] = ()
    if found.covariance is not None:
        narrow, *_, wide = [float(v) for v in torch.linalg.eigvalsh(found.covariance)[[0, -1]]]
        note += f"; covariance within the modes is {narrow:.3g} to {wide:.3g} of the true one"
    error = math.sqrt(found.perfect * (1 - found.perfect) / len(found.near))
    if float(found.near.mean()) > found.perfect + 3 * error:
        text = "more samples within 3 sd than a perfect sampler has: they are over-concentrated"
        over = (Doubt(text, Remedy.COPIES),)
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


def modes(samples: Tensor, centres: Tensor, sd: float) -> Modes:
    r"""Count the modes that samples reach.

    A perfect sampler has a share P(chi2_d < 9) within 3 sd, 98.89% in the plane: a greater one is
    over-concentrated. If m of M modes are reached, evenly, the KL is ln(M / m).

    Metz, Poole, Pfau and Sohl-Dickstein 2017, Unrolled Generative Adversarial Networks; Lin,
    Khetan, Fanti and Oh 2018, PacGAN.

    Args:
        samples: `(n, d)`.
        centres: `(modes, d)`.
        sd: standard deviation of every mode, in units of the data.

    Raises:
        Unavailable: if there are no samples, the widths of the rows differ, or sd is not positive.

    Example:
        >>> modes(torch.zeros(10, 2), torch.tensor([[0.0, 0.0], [9.0, 9.0]]), 1.0).found
        1
    """
    if samples.dim() != 2 or len(samples) == 0 or samples.shape[1] != centres.shape[1]:
        raise Unavailable(
            f"samples must be of shape (n, {centres.shape[1]}), got {tuple(samples.shape)}"
        )
    if not sd > 0:
        raise Unavailable(f"sd must be positive, got {sd}")
    from scipy.stats import chi2

    d = samples.shape[1]
    centres = centres.double().to(samples.device)
    squares, mode = squared_distances(samples.double(), centres).min(1)
    near = squares <= (_REACH * sd) ** 2
    perfect = float(chi2.cdf(_REACH**2, d))
    counts = mode.bincount(minlength=len(centres)).double().cpu()
    kl, kl_se = histogram_kl(counts, torch.full_like(counts, 1 / len(counts)))
    covariance = None
    if near.any():  # E[r^2; r < 3] = d P(chi2_{d+2} < 9)
        truth = float(chi2.cdf(_REACH**2, d + 2)) / perfect * sd**2
        residual = samples.double()[near] - centres[mode[near]]
        covariance = (residual.T @ residual / len(residual) / truth).cpu()
    found = len(mode[near].unique())
    return Modes(found, len(centres), near.double().cpu(), perfect, counts, kl, kl_se, covariance)


def histogram_kl(counts: Tensor, truth: Tensor) -> tuple[float, float]:
    r"""Return the KL divergence from a histogram to known frequencies, in nats, and its error.

    .. math:: \sum_c h_c \ln \frac{h_c}{p_c}

    A finite sample of the truth has about (classes - 1) / 2n.

    Args:
        counts: by class, `(classes,)`.
        truth: frequencies that sum to 1, all positive, `(classes,)`.

    Raises:
        ValueError: if nothing was counted, or a frequency is not positive.
    """
    if float(counts.sum()) <= 0 or float(truth.min()) <= 0:
        raise ValueError("a histogram needs counts, and frequencies that are all positive")
    counts, truth = counts.double(), truth.double()
    n = float(counts.sum())
    share = counts / n
    ratio = torch.where(share > 0, share / truth, 1.0).log()
    kl = float((share * ratio).sum())
    return kl, math.sqrt(max(float((share * ratio.square()).sum()) - kl**2, 0.0) / n)


@once
def _modes(draws: Sets) -> Modes:
    mixture = getattr(draws, "mixture", None)
    if mixture is None:
        raise Unavailable("the data come from no mixture whose modes are known (ring, grid)")
    check_finite("samples", draws.generated)
    return modes(draws.generated, mixture.centres, mixture.sd)
