"""Which data are not of the training data's kind: scores of a model, and how well they separate."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.data.rows import prepared
from priory.evaluation.insight.opened import bound, bound_of
from priory.evaluation.rows import read
from priory.evaluation.subject import preparation_of
from priory.likelihoods.values import is_binary

_LEVELS = 255


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
        ValueError: if a set has fewer than two scores, or a score is not a number.

    Example:
        >>> auroc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0])).value
        0.9166666666666666
    """
    a, b = (scores.double().cpu().numpy() for scores in (inside, outside))
    if min(len(a), len(b)) < 2:
        raise ValueError(f"auroc needs at least 2 scores of each set, got {len(a)} and {len(b)}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("scores must be numbers, got nan")
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
        background: trained on a `mutate`d copy of them.
        data: a split, columns by name, or an array of x.
        particles: importance samples K per datum of both bounds.
        seed: seed of the samples.

    Returns:
        `(n,)`, in nats, high for data of the run's kind: a difference of two lower bounds.
    """
    options = {"particles": particles, "seed": seed}
    return bound(run, data, **options) - bound(background, data, **options)


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
    return bound_of(run, rows, particles=particles, seed=seed) + code_length(read(rows)["x"])


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
