"""The K-sample bound on log p(x), streamed: one measure for every pair with a density."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.normaliser import known_of
from priory.evaluation.likelihood.pareto import THRESHOLD, Tail, tail_length
from priory.evaluation.likelihood.quantity import likelihood_of
from priory.evaluation.record import Estimate, Kind, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, blocks, check, read
from priory.evaluation.sample_sets import Sets
from priory.inference.diagnosis import is_out_of_memory
from priory.inference.distributed import ranks
from priory.inference.phases.arguments import is_estimated, owner
from priory.inference.phases.particles import log_weights, vectorises
from priory.models.chain import LatentChain

_STREAM = 1
_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}  # of one array, to spread the cost of a call
_WIDTH = 128  # hidden layers are taken to be at least this wide when the blocks are sized
_FEW_EFFECTIVE = 10
_DOUBTFUL = 0.1  # share of the data above which a warning is given
_PARTICLES = 500  # enough that the guide's own cost is spread thin
_NO_ROOM = (
    "out of memory on {} with one particle of one row at a time; free memory there, or take a "
    "smaller network or another device"
)


class Bounds(NamedTuple):
    """Four views of the same log weights, per datum, each `(n,)`, float64, on the CPU.

    Args:
        log_likelihood: lower bound on log p(x) in nats, exact as K grows.
        elbo: mean of the log weights in nats, the bound at K = 1.
        ess: effective sample size, between 1 and K.
        khat: shape of the weights' tail: above 0.7 the bound is not to be trusted; NaN if K < 21.
    """

    log_likelihood: Tensor
    elbo: Tensor
    ess: Tensor
    khat: Tensor


def log_likelihood(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    particles: int = 1000,
    seed: int = 0,
    *,
    block: tuple[int, int] | None = None,
) -> Bounds:
    r"""Bound log p(x) of each datum by K importance samples from the guide.

    .. math:: \log \frac{1}{K} \sum_k w_k, \quad w_k = p(x, z_k) / q(z_k \mid x), \quad
        \mathrm{ESS} = (\sum_k w_k)^2 / \sum_k w_k^2

    The sums run over blocks of particles and of data, so that memory does not grow with K. Several
    ranks share the blocks of data, and all get every bound, the same as in one process. Nothing of
    the caller's is changed: see `sealed`. For k-hat see `pareto`.

    Where the log densities are unbiased estimates K is 1, and ESS has no meaning: NaN.

    Burda, Grosse and Salakhutdinov 2016, Importance Weighted Autoencoders.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        data: a split, columns by name, or an array of x.
        particles: samples K per datum.
        seed: seed of the samples.
        block: particles and rows at a time; sized by itself if `None`, and shrunk where a device
            runs out of memory.

    Raises:
        ValueError: if `particles` or a block is not positive, or data are empty, NaN or infinite.
        MemoryError: if the memory does not suffice for one particle of one row.
        Unavailable: if the log normaliser of a Boltzmann machine is not known.

    Example:
        >>> bounds = log_likelihood(pair.model, pair.guide, x, particles=50)
        >>> bounds.log_likelihood.shape, bounds.log_likelihood.dtype
        (torch.Size([12]), torch.float64)
    """
    if particles < 1:
        raise ValueError(f"particles must be at least 1, got {particles}")
    if block is not None and min(block) < 1:
        raise ValueError(f"block must be two positive numbers (particles, rows), got {block}")
    columns = check(read(data))
    like = placement(model, guide)
    sample = next(iter(columns.values())) if like is None else like
    own = owner(model)
    way = own.timesteps * columns["x"][0].numel() if isinstance(own, LatentChain) else 1
    if is_estimated(model):  # the mean of exponentials of estimates would be no bound
        particles = 1
    k, rows = block or _block(particles, columns, sample, way)
    while True:
        out = None
        try:
            with sealed(model, guide, device=sample.device):
                known = known_of(model, guide)
                if known is not None and not known.is_known:
                    raise Unavailable(known.note)
                out = _stream(model, guide, columns, particles, seed, like, k, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if not ranks.any_rank(out is None) and out is not None:
            return Bounds(*ranks.total_(out))
        if k == rows == 1:
            raise MemoryError(_NO_ROOM.format(sample.device))
        k, rows = max(1, k // 2), max(1, rows // 2)


def _stream(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    columns: Columns,
    particles: int,
    seed: int,
    like: Tensor | None,
    k: int,
    rows: int,
) -> Tensor:
    """Return the bounds of this rank's blocks, `(4, n)`, and 0 for the rows of other ranks."""
    total_rows = len(next(iter(columns.values())))
    out = torch.zeros(4, total_rows, dtype=torch.float64)  # one block of memory, filled in place
    together = vectorises(model, guide, next(blocks(columns, 2, like))[1])
    own = itertools.islice(blocks(columns, rows, like), ranks.rank(), None, ranks.world())
    for start, part in own:
        first = next(iter(part.values()))
        reseed(first.device, seed, _STREAM, start)
        log_sum = first.new_full((len(first),), -math.inf, dtype=torch.float64)
        log_squares, total = log_sum, torch.zeros_like(log_sum)
        tail = Tail(particles)
        for done in range(0, particles, k):
            now = min(k, particles - done)
            log_w = log_weights(model, guide, part, now, together=together)
            if log_w.shape[-1] != len(first):
                raise ValueError(
                    f"the pair has {log_w.shape[-1]} log weights per particle for {len(first)} "
                    "rows; put its local sites into pyro.plate('data', len(x), dim=-1)"
                )
            tail.add(log_w.expand(now, -1))
            log_w = log_w.double().expand(now, -1)
            log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
            log_squares = torch.logaddexp(log_squares, (2 * log_w).logsumexp(0))
            total = total + log_w.sum(0)
        ess = (2 * log_sum - log_squares).exp()
        out[0, start : start + rows] = log_sum - math.log(particles)
        out[1, start : start + rows] = total / particles
        out[2, start : start + rows] = ess
        out[3, start : start + rows] = tail.khat() if tail.length else math.nan
    return out


def _block(particles: int, columns: Columns, like: Tensor, latent: int = 1) -> tuple[int, int]:
    """Size the blocks: particles, then rows; of a datum's latents of some number of values."""
    sizes = (c[0].numel() for c in columns.values() if c.is_floating_point())
    values = max(_WIDTH, latent, *sizes, 1)
    total = max(1, _BYTES.get(like.device.type, _BYTES["cuda"]) // (values * like.element_size()))
    k = min(particles, total, _PARTICLES)
    k = math.ceil(particles / math.ceil(particles / k))
    return k, max(1, total // k)


@metric("likelihood", "density", "log_weight", better="lower", quantity=likelihood_of)
def nll(draws: Sets) -> Estimate:
    """Negative log likelihood, by the K-sample bound; exact where the posterior is, or none."""
    return Estimate.mean(
        -draws.log_weight.log_likelihood,
        kind=kind_of(draws, "upper bound"),
        unit="nats",
        **samples_of(draws),
        warnings=doubts(draws),
    )


def kind_of(draws: Sets, bound: Kind) -> Kind:
    """Return what a pair's likelihood is: exact, an unbiased estimate, or a bound.

    Args:
        draws: of the pair.
        bound: which bound, where it is one.
    """
    if draws.exact:
        return "exact"
    return "unbiased" if draws.estimated and not draws.density.latents else bound


def samples_of(draws: Sets) -> dict[str, Any]:
    """Return how many samples a pair's likelihood is of, as `Estimate.mean` takes it.

    Args:
        draws: of the pair.
    """
    how = getattr(owner(draws.model), "how", "")
    noted = {"note": how} if isinstance(how, str) and how else {}
    if draws.exact:
        return noted
    if draws.estimated:
        return noted | ({"particles": 1} if draws.density.latents else {})
    if draws.chain is None:
        return noted | {"particles": draws.particles}
    steps = draws.chain.timesteps
    each = draws.chain.draws_of_each(draws.particles)
    note = f"the sum over all {steps} steps, {each} draw{'s' * (each > 1)} of each, in closed form"
    return {"note": note}


@metric("likelihood", "density", "log_weight", better="higher", quantity=likelihood_of)
def elbo(draws: Sets) -> Estimate:
    """Evidence lower bound, from the same log weights."""
    samples = samples_of(draws)
    how = samples.pop("note", "averaged over the K samples of each datum")
    return Estimate.mean(
        draws.log_weight.elbo,
        kind=kind_of(draws, "lower bound"),
        unit="nats",
        **samples,
        note=f"bounds {draws.quantity.name}; {how}",
    )


@metric("likelihood", "density", "log_weight", quantity=likelihood_of)
def ess(draws: Sets) -> Estimate:
    """Effective share of the K importance samples: how far to trust the nll."""
    _sampled(draws)
    return Estimate.mean(
        draws.log_weight.ess / draws.particles,
        kind="biased",
        particles=draws.particles,
        note="effective share of the K samples",
        warnings=doubts(draws),
    )


@metric("likelihood", "density", "log_weight", better="lower", quantity=likelihood_of)
def khat(draws: Sets) -> Estimate:
    """Share of the data whose importance weights have a tail too heavy to trust the nll."""
    _sampled(draws)
    if not tail_length(draws.particles):
        raise Unavailable(
            f"K = {draws.particles} samples are too few for a tail: k-hat needs at least 21"
        )
    check_finite("log weights", draws.log_weight.log_likelihood.unsqueeze(1))
    values = draws.log_weight.khat
    return Estimate.share(
        (values > THRESHOLD).double(),
        kind="biased",
        particles=draws.particles,
        note=f"k-hat above {THRESHOLD}; its median {values.median():.2f}, its largest "
        f"{values.max():.2f}",
    )


def _sampled(draws: Sets) -> None:
    if not draws.density.latents:
        raise Unavailable("the model has no latents: there are no importance weights")
    if draws.chain is not None:
        raise Unavailable("the bound is a sum over a chain's steps, without importance weights")
    if draws.estimated:
        raise Unavailable("log densities are unbiased estimates, which weigh no samples")


def doubts(draws: Sets) -> tuple[Doubt, ...]:
    """Say why the K-sample bound of a pair may be far from log p(x), if it may.

    Args:
        draws: of the pair.
    """
    return () if draws.exact else doubts_of(draws.log_weight, draws.particles)


def doubts_of(bounds: Bounds, particles: int) -> tuple[Doubt, ...]:
    """Say why bounds may be loose, if they may.

    Args:
        bounds: of each datum.
        particles: importance samples K behind them.
    """
    found = []
    heavy = float((bounds.khat > THRESHOLD).double().mean())
    if heavy > _DOUBTFUL:
        text = (
            f"{heavy:.0%} of the data have k-hat above {THRESHOLD}: the bound may be loose there, "
            "and a larger K helps little"
        )
        found.append(Doubt(text, Remedy.GUIDE))
    poor = float((bounds.ess < _FEW_EFFECTIVE).double().mean())
    if particles > _FEW_EFFECTIVE and poor > _DOUBTFUL:
        text = (
            f"{poor:.0%} of the data have fewer than {_FEW_EFFECTIVE} effective samples: take a "
            "larger K"
        )
        found.append(Doubt(text, Remedy.SAMPLES))
    return tuple(found)
