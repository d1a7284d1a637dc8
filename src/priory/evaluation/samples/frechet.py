"""The Frechet distance between the features of samples and data."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples.features import feature_sets, features_quantity
from priory.evaluation.samples.pairwise import check_sets

_NEGLIGIBLE = 1e-10  # of the greatest variance: below it a direction is rounding


class _Moments(NamedTuple):
    mean: Tensor
    covariance: Tensor
    root: Tensor
    inverse: Tensor  # of the root, on the directions that vary


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def frechet(draws: Sets) -> Estimate:
    """Squared Frechet distance between the features of samples and data."""
    real, generated, features = feature_sets(draws)
    value, se = frechet2(generated, real)
    note = f"{features}; biased upwards: compare at equal n, beside the anchors"
    text = f"{len(real)} samples do not span {real.shape[1]} features"
    few = (Doubt(text, Remedy.ROWS),) if len(real) <= real.shape[1] else ()
    return Estimate(value, se, len(real), "biased", note=note, warnings=few)


def frechet_distance(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> float:
    r"""Return the squared Frechet (Wasserstein-2) distance between two Gaussians.

    .. math:: |m_a - m_b|^2 + \mathrm{tr} S_a + \mathrm{tr} S_b
        - 2\, \mathrm{tr} (S_a^{1/2} S_b S_a^{1/2})^{1/2}

    The last trace is the sum of the singular values of the product of the two symmetric roots, so
    that no root of a general matrix is taken and a Gaussian is at distance 0 of itself.

    Dowson and Landau 1982, The Frechet distance between multivariate normal distributions.

    Args:
        mean_a: `(d,)`.
        covariance_a: `(d, d)`.
        mean_b: `(d,)`.
        covariance_b: `(d, d)`.
    """
    first, second = _moments(mean_a, covariance_a), _moments(mean_b, covariance_b)
    return _distance(first, second, torch.linalg.svdvals(first.root @ second.root))


def frechet2(a: Tensor, b: Tensor) -> tuple[float, float]:
    r"""Return the squared Frechet distance between the moments of two sets, and its error.

    Between finite sets of equal distributions it is above 0, the more so the more features and the
    fewer samples: only sets of equal sizes compare (Chong and Forsyth 2020, Effectively Unbiased
    FID and Inception Score). The error is the delta method's: the influence of one sample is

    .. math:: 2 (m_a - m_b) \cdot c + |c|^2 - c^\top T c, \quad c = a_i - m_a

    where T is the linear map that transports the first Gaussian to the second.

    Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter 2017, GANs Trained by a Two Time-Scale
    Update Rule.

    Args:
        a: features, `(n, d)`.
        b: features, `(m, d)`.

    Raises:
        Unavailable: if a set has fewer than 2 rows, or the widths of the rows differ.
    """
    a, b = check_sets(a, b, least=2)
    first, second = (_moments(x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1)) for x in (a, b))
    left, singular, right = torch.linalg.svd(first.root @ second.root)
    between = first.mean - second.mean
    turned_a, turned_b = left * singular @ left.mT, right.mT * singular @ right
    variance = _influence(a, first, turned_a, between).var() / len(a)
    variance += _influence(b, second, turned_b, -between).var() / len(b)
    return _distance(first, second, singular), math.sqrt(float(variance))


def _moments(mean: Tensor, covariance: Tensor) -> _Moments:
    mean, covariance = mean.double(), covariance.double()
    values, vectors = torch.linalg.eigh(covariance)
    spread = values.clamp(min=0).sqrt()
    kept = values > _NEGLIGIBLE * values[-1]
    inverse = torch.where(kept, spread, 1.0).reciprocal() * kept
    return _Moments(mean, covariance, vectors * spread @ vectors.mT, vectors * inverse @ vectors.mT)


def _distance(first: _Moments, second: _Moments, singular: Tensor) -> float:
    means = (first.mean - second.mean).square().sum()
    return float(means + first.covariance.trace() + second.covariance.trace() - 2 * singular.sum())


def _influence(x: Tensor, distribution: _Moments, turned: Tensor, between: Tensor) -> Tensor:
    """Return each sample's influence; with w = S^(-1/2) c, c'Tc is w' `turned` w."""
    c = x - distribution.mean
    w = c @ distribution.inverse
    return 2 * c @ between + c.square().sum(1) - (w @ turned * w).sum(1)
