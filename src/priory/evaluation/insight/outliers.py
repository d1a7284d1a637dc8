"""Which data are not of the training data's kind: scores of a model, and how well they separate."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.data.rows import prepared
from priory.evaluation.draws import Draws
from priory.evaluation.insight.density import bound, bound_of
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import Need, metric
from priory.evaluation.rows import read
from priory.evaluation.sample_sets import once
from priory.evaluation.subject import preparation_of
from priory.likelihoods.values import is_binary

_LEVELS = 255
_NEEDS: tuple[Need, ...] = ("outliers", "density", "log_weight")


class Area(NamedTuple):
    """Area under the receiver operating characteristic, with its standard error.

    Args:
        value: 1 if every score of the one set is above all of the other; 1/2 is chance.
        se: standard error.
    """

    value: float
    se: float


def auroc(inside: Tensor, outside: Tensor) -> Area:
    r"""Measure how well a score, high for data of the model's kind, separates them from outliers.

    .. math:: A = P(s_{in} > s_{out}) + \tfrac12 P(s_{in} = s_{out})

    The statistic of Mann and Whitney, by ranks. The standard error is DeLong's: the variance of
    each datum's own share of won comparisons, :math:`s^2(V_{in})/m + s^2(V_{out})/n`.

    DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated
    receiver operating characteristic curves.

    Args:
        inside: scores of data of the model's kind, `(m,)`.
        outside: scores of outliers, `(n,)`.

    Raises:
        Unavailable: if a set has fewer than two scores, or a score is not a number.

    Example:
        >>> auroc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0])).value
        0.9166666666666666
    """
    a, b = (scores.double().cpu().numpy() for scores in (inside, outside))
    if min(len(a), len(b)) < 2:
        raise Unavailable(f"auroc needs at least 2 scores of each set, got {len(a)} and {len(b)}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise Unavailable("scores must be numbers, got nan")
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([a, b]))
    won = (ranks[: len(a)] - rankdata(a)) / len(b)
    lost = 1 - (ranks[len(a) :] - rankdata(b)) / len(a)
    variance = won.var(ddof=1) / len(a) + lost.var(ddof=1) / len(b)
    return Area(float(won.mean()), math.sqrt(variance))


def mutate(x: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    r"""Replace each value with probability `rate` by one drawn evenly from all that are possible.

    A model of mutated data knows the background, not what stands before it: the data's own
    structure is what the ratio of the two models is left with. Binary data get fair coins, values
    in [0, 1] the levels k / 255, others real numbers between the least and the largest.

    Ren et al. 2019, Likelihood ratios for out-of-distribution detection.

    Args:
        x: training data, `(n, *shape)`.
        rate: share of the values, 0.1 to 0.3 in the paper.
        generator: of the draws.

    Raises:
        ValueError: if the rate is no share.

    Example:
        >>> train = mutate(data.train.x, 0.2, torch.Generator().manual_seed(0))
        >>> background = fit(VAE(), ELBO(), Data.from_arrays(train))
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be a share from 0 to 1, got {rate}")
    u = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    low, high = float(x.min()), float(x.max())
    if is_binary(x):
        drawn = (u < 0.5).to(x)
    elif low >= 0 and high <= 1:
        drawn = ((u * (_LEVELS + 1)).floor() / _LEVELS).to(x)
    else:
        drawn = (low + u * (high - low)).to(x)
    hit = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device) < rate
    return torch.where(hit, drawn, x)


def likelihood_ratio(
    run: Any, background: Any, data: Any, *, particles: int = 100, seed: int = 0
) -> Tensor:
    r"""Score data by what a model knows beyond the background, :math:`\log p(x) - \log p_0(x)`.

    Ren et al. 2019, Likelihood ratios for out-of-distribution detection.

    Args:
        run: trained on the data.
        background: trained on a copy of them that `mutate` has changed.
        data: a split, columns by name, or an array of x.
        particles: importance samples K per datum of both bounds.
        seed: seed of the samples.

    Returns:
        `(n,)`, in nats, high for data of the run's kind: a difference of two lower bounds.
    """
    options = {"particles": particles, "seed": seed}
    rows = prepared(data, preparation_of(background))
    return _over_background(bound(run, data, **options), background, rows, **options)


def complexity_ratio(run: Any, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    r"""Score data by a model against a general compressor, :math:`\log p(x) + L(x)`.

    Simple images are likely under any model; the length L of the image in a general code says how
    simple. No second model is needed. The two are in the same units if p(x) is a probability of
    pixels at 256 levels (`DiscretizedLogistic`) or of binary ones.

    Serra et al. 2020, Input complexity and out-of-distribution detection with likelihood-based
    generative models.

    Args:
        run: a run, or a pair.
        data: a split, columns by name, or an array of x.
        particles: importance samples K per datum.
        seed: seed of the samples.

    Returns:
        `(n,)`, in nats, high for data of the run's kind.
    """
    rows = prepared(data, preparation_of(run))
    return _with_length(bound_of(run, rows, particles=particles, seed=seed), read(rows)["x"])


def code_length(x: Tensor) -> Tensor:
    """Return how long each datum is in a general code: zlib's, after the best of PNG's filters.

    Values are put at 256 levels between the least and the largest of all data; where all are 0 or
    1, eight are packed into a byte. The filters take the left or the upper neighbour's value off,
    or none.

    Args:
        x: `(n, *shape)`; the last dimension is the width, the one before it the height.

    Returns:
        `(n,)`, float64, in nats.
    """
    values = x.detach().cpu().double().numpy()
    low, high = float(values.min()), float(values.max())
    binary = is_binary(x)
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-12)
    levels = (values * (1 if binary else _LEVELS)).round().astype(np.uint8)
    forms = [levels]
    for axis in range(max(1, levels.ndim - 2), levels.ndim):
        before = np.zeros_like(np.take(levels, [0], axis))
        forms.append(np.diff(levels, axis=axis, prepend=before))  # modulo 256, as PNG does
    if binary:
        forms = [np.packbits(form.reshape(len(levels), -1) & 1, axis=1) for form in forms]
    lengths = [[len(zlib.compress(row.tobytes(), 9)) for row in form] for form in forms]
    return torch.tensor(lengths, dtype=torch.float64).min(0).values * 8 * math.log(2)


@metric("insight", *_NEEDS, better="higher")
def outlier_auroc(draws: Draws) -> Estimate:
    """How well the bound on log p(x) alone tells data from the outliers that are named."""
    note = "by the bound alone, which a simple image can raise whatever it shows"
    return _auroc(draws, *_bounds(draws), note)


@metric("insight", *_NEEDS, "x", better="higher")
def outlier_auroc_complexity(draws: Draws) -> Estimate:
    """How well the bound and the length in a general code tell data from the outliers."""
    known, new = _bounds(draws)
    known, new = _with_length(known, draws.x), _with_length(new, draws.outliers["x"])
    note = "by the bound and the length of the image in a general code (zlib)"
    return _auroc(draws, known, new, note)


@metric("insight", "outliers", "background", "density", better="higher")
def outlier_auroc_ratio(draws: Draws) -> Estimate:
    """How well the likelihood ratio to a background model tells data from the outliers."""
    options = {"particles": draws.particles, "seed": draws.seed}
    known, new = _bounds(draws)
    known = _over_background(known, draws.background, draws.columns, **options)
    new = _over_background(new, draws.background, draws.outliers, **options)
    note = "by the difference of the bounds of the run and of its background"
    return _auroc(draws, known, new, note)


def _auroc(draws: Draws, known: Tensor, new: Tensor, note: str) -> Estimate:
    area = auroc(known, new)
    return Estimate(
        area.value,
        area.se,
        draws.n,
        "unbiased",
        particles=draws.particles,
        note=f"{note}; {len(known)} data against {len(new)} outliers; 1/2 tells nothing",
    )


def _bounds(draws: Draws) -> tuple[Tensor, Tensor]:
    """Return the bounds on log p(x) of data and of outliers, `(n,)` and `(m,)`."""
    return draws.log_weight.log_likelihood, _outlier_bounds(draws)


@once
def _outlier_bounds(draws: Draws) -> Tensor:
    return draws.bounds(draws.outliers).log_likelihood


def _over_background(
    bounds: Tensor, background: Any, rows: Any, *, particles: int, seed: int
) -> Tensor:
    """Take the background's bounds off, of rows that are prepared already."""
    return bounds - bound_of(background, rows, particles=particles, seed=seed)


def _with_length(bounds: Tensor, x: Tensor) -> Tensor:
    return bounds + code_length(x)
