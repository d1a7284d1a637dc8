"""How densely a model covers each example: by its bound, and by its code among training codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.data.rows import prepared
from priory.evaluation.draws import Draws
from priory.evaluation.isolation import sealed
from priory.evaluation.likelihood.bound import log_likelihood
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.rows import Columns, blocks, check, read, thin
from priory.evaluation.sample_sets import Units
from priory.evaluation.subject import opened, preparation_of
from priory.inference.phases.phases import Phases

COMPONENTS = 1000  # training rows whose posteriors make up the aggregated one
_BYTES = 32 * 2**20
_ROWS = 500  # rows at a time
_TRAIN = 1000  # training rows that are compared with
_FEW = 500  # of them make up the aggregated posterior
_LEVEL = 0.01
_RESAMPLES = 200


class Coverage(NamedTuple):
    """How a model sees each example, `(n,)` each, float64, in nats.

    Args:
        bound: on log p(x).
        density: log density of the code under the aggregated posterior of the training rows.
        prior: log density of the code under the prior.
    """

    bound: Tensor
    density: Tensor
    prior: Tensor


def cover(
    run: Any,
    data: Any = None,
    *,
    particles: int = 100,
    components: int = COMPONENTS,
    seed: int = 0,
) -> Coverage:
    r"""Say how densely a model covers each example, by its bound and by its code.

    The code of a datum is its posterior mean; q(z), the aggregated posterior, is where the training
    data's codes lie. A training row is left out of the q(z) that it is judged by, else it would be
    dense by its own presence.

    Args:
        run: a trained run.
        data: a split, columns by name, or an array of x; the run's training rows if `None`.
        particles: importance samples K per datum, of the bound.
        components: training rows whose posteriors make up q(z), evenly spaced.
        seed: seed of the draws.

    Raises:
        ValueError: if a number is not positive or the data are empty, NaN or infinite.
        Unavailable: if the pair has not one latent site with a posterior density.

    Example:
        >>> coverage = cover(run)
        >>> images = run.data.train.x[rarest(coverage.density, 20)]
    """
    train = check(read(run.data.train), "train")
    columns = train if data is None else check(read(prepared(data, preparation_of(run))))
    reference = None if data is None else train
    density = latent_density(run, columns, reference, components=components, seed=seed)
    explained = bound_of(run, columns, particles=particles, seed=seed)
    return Coverage(explained, density, prior_density(run, columns, seed=seed))


def bound(run: Any, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """Bound log p(x) of each datum, `(n,)`, in nats, float64; see `log_likelihood`.

    Of a run on standardised data it is the density in the data's own units.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: a `Data`'s split, columns by name, a data frame or an array of x; prepared as the
            run's training rows were.
        particles: importance samples K per datum.
        seed: seed of the samples.
    """
    return bound_of(run, prepared(data, preparation_of(run)), particles=particles, seed=seed)


def bound_of(run: Any, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """Bound log p(x) of each datum as `bound` does, of rows that are prepared already.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: a split or columns by name.
        particles: importance samples K per datum.
        seed: seed of the samples.
    """
    with opened(run) as pair:
        found = log_likelihood(pair.model, pair.guide, data, particles, seed).log_likelihood
    units = Units.of(getattr(run, "data", None))
    return found if units is None else found - units.log_volume(read(data))


def latent_density(
    run: Any,
    columns: Columns,
    reference: Columns | None = None,
    *,
    components: int = COMPONENTS,
    seed: int = 0,
) -> Tensor:
    r"""Log density of each datum's code m under the aggregated posterior.

    .. math:: \log q(m_i) = \log \frac{1}{|J|} \sum_{j \in J} q(m_i \mid x_j), \quad
        m_i = \mathbb{E}_q[z \mid x_i]

    J are evenly spaced rows of the reference. Without one they are rows of the data, and a row i
    that is among them is left out of its own sum.

    Makhzani et al. 2015, Adversarial autoencoders; Tomczak and Welling 2018, VAE with a VampPrior.

    Args:
        run: a run, or an object with `model` and `guide`.
        columns: the data.
        reference: training columns; the data themselves if `None`.
        components: rows J of the reference, at most.
        seed: seed of the draws behind a posterior mean without closed form.

    Returns:
        `(n,)`, float64, on the CPU, in nats.

    Raises:
        ValueError: if there are fewer than two components.
        Unavailable: if the pair has not one latent site with a posterior density.
    """
    rows = len(next(iter(columns.values())))
    pool = columns if reference is None else reference
    size = len(next(iter(pool.values())))
    if min(components, size) < 2:
        raise ValueError(f"components must be at least 2, got {components} of {size} rows")
    number = thin({"row": torch.arange(size)}, components)["row"]
    with opened(run) as pair, sealed(pair, pair.model, pair.guide):
        draws = Draws(pair.model, pair.guide, columns, reference=None, seed=seed)
        codes = draws.posterior.mean.reshape(draws.posterior.z.shape)
        chosen = {name: value[number.to(value.device)] for name, value in pool.items()}
        posteriors = Draws(pair.model, pair.guide, chosen, seed=seed).posterior.posteriors
        own = torch.full((rows,), -1)
        if reference is None:
            own[number] = torch.arange(len(number))
        return mixture_log_density(codes, posteriors, own)


def prior_density(run: Any, columns: Columns, *, seed: int = 0) -> Tensor:
    """Log density of each datum's code, its posterior mean, under the prior.

    Args:
        run: a run, or an object with `model` and `guide`.
        columns: the data.
        seed: seed of the draws behind a posterior mean without closed form.

    Returns:
        `(n,)`, float64, on the CPU, in nats.

    Raises:
        Unavailable: if the pair has not one latent site.
    """
    scores = []
    with opened(run) as pair, sealed(pair, pair.model, pair.guide):
        draws = Draws(pair.model, pair.guide, columns, seed=seed)
        codes = draws.latents.mean.reshape(draws.latents.z.shape)
        for start, rows in blocks(columns, _ROWS, codes):
            given = {draws.latent_site: codes[start : start + _ROWS]}
            phase = Phases(pair.model, pair.guide, columns=rows, latents=given).awake
            scores.append(phase.log_p(draws.latent_site)[0])
    return torch.cat(scores).double().cpu()


def mixture_log_density(
    z: Tensor, posteriors: Sequence[Any], own: Tensor | None = None, block: int | None = None
) -> Tensor:
    """Log density of points under the even mixture of posteriors, each without its own, by blocks.

    Args:
        z: `(n, *event)`.
        posteriors: distributions of batch shape `(rows,)` or `(1, rows)`, the components in order.
        own: number of the component that is left out for each point, -1 for none, `(n,)`.
        block: points at a time; sized by itself if `None`.

    Returns:
        `(n,)`, float64, on the CPU, in nats.
    """
    total = torch.full((len(z),), -math.inf, dtype=torch.float64, device=z.device)
    own = torch.full((len(z),), -1) if own is None else own
    own, first = own.to(z.device), 0
    for q in posteriors:
        count = q.batch_shape[-1]
        index = torch.arange(first, first + count, device=z.device)
        size = block or max(1, _BYTES // (8 * z[:1].numel() * count))
        for start in range(0, len(z), size):
            part = slice(start, start + size)
            scores = q.log_prob(z[part].unsqueeze(1)).double()
            scores = scores.masked_fill(own[part, None] == index, -math.inf)
            total[part] = torch.logaddexp(total[part], scores.logsumexp(-1))
        first += count
    return (total - (first - (own >= 0).double()).log()).cpu()


def rarest(density: Tensor, count: int | float = 0.01) -> Tensor:
    """Return the rows of least density, the rarest first.

    Args:
        density: log densities or bounds, `(n,)`.
        count: how many; or, below 1, which share of the rows, rounded up.

    Raises:
        ValueError: if the count is not positive or larger than n.
    """
    n = len(density)
    number = math.ceil(count * n) if 0 < count < 1 else count
    if number != int(number) or not 1 <= number <= n:
        raise ValueError(f"count must be from 1 to {n}, or a share below 1, got {count}")
    return density.argsort(stable=True)[: int(number)]


def rare_share(
    train: Tensor, test: Tensor, level: float = 0.01, seed: int = 0
) -> tuple[Tensor, float]:
    r"""Say which test rows are less dense than the quantile of the training rows, with an error.

    .. math:: \frac{1}{n} \sum_i 1[d_i < Q_\alpha(d^{train})]

    Equal distributions give the level, on average. The standard error is a bootstrap's over both
    sets, and no less than a binomial's with one more hit, since a sample without a hit does not
    prove zero.

    Args:
        train: log densities of training rows, `(m,)`.
        test: log densities of test rows, `(n,)`.
        level: of the quantile.
        seed: seed of the bootstrap.

    Returns:
        1 where a row is rare, else 0, `(n,)`, and the standard error of their mean.

    Raises:
        Unavailable: if there are fewer training rows than 1 / level: there is then no quantile.
    """
    if len(train) < 1 / level:
        raise Unavailable(
            f"a quantile of {level:g} needs at least {math.ceil(1 / level)} training rows, got "
            f"{len(train)}"
        )
    known, new, draw = train.double().numpy(), test.double().numpy(), np.random.default_rng(seed)
    hits = torch.from_numpy(new < _quantile(known, level)).double()
    again = _quantile(draw.choice(known, (_RESAMPLES, len(known))), level)
    shares = (draw.choice(new, (_RESAMPLES, len(new))) < again[:, None]).mean(1)
    n = len(test)
    one_more = (hits.sum() + 1) / (n + 1)
    least = float((one_more * (1 - one_more) / n).sqrt())
    return hits, max(float(shares.std()), least)


@metric("insight", "train", "posterior")
def rare(draws: Draws) -> Estimate:
    """Share of the data whose codes lie where hardly a training row's does."""
    pair = SimpleNamespace(model=draws.model, guide=draws.guide)
    _ = draws.posterior  # says why there is none
    train = thin(draws.train, _TRAIN)

    def density(columns: Columns, reference: Columns | None = None) -> Tensor:
        return latent_density(pair, columns, reference, components=_FEW, seed=draws.seed)

    if len(next(iter(train.values()))) < 2:
        raise Unavailable("one training row is too few to say where codes lie")
    known, new = density(train), density(draws.columns, train)
    hits, se = rare_share(known, new, _LEVEL, draws.seed)
    note = (
        f"codes less dense under the aggregated posterior than those of {_LEVEL:.0%} of "
        f"{len(known)} training rows; {_LEVEL} for data of the same distribution"
    )
    return Estimate(float(hits.mean()), se, len(hits), "unbiased", note=note, values=hits)


def _quantile(values: np.ndarray[Any, Any], level: float) -> Any:
    """Return the quantile below which a new value falls with the level's probability."""
    return np.quantile(values, level, axis=-1, method="weibull")
