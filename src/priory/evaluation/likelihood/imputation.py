"""Features that are missing: drawn given those that are seen, and how likely the true ones are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.bound import Bounds, doubts_of, log_likelihood
from priory.evaluation.likelihood.joint import Joint
from priory.evaluation.likelihood.masking import coordinate_log_prob
from priory.evaluation.likelihood.pareto import Tail
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.rows import Columns, blocks, check, read, rows_of, thin
from priory.inference.phases.phases import Phases, generate

CHAINS = 16
STEPS = 100
_STREAM, _PROPOSALS, _HALVES = 12, 13, 15
_VALUES = 2**22  # numbers of one array
_MASK, _DRAWN = " seen", " drawn"  # no column's name has a space


def impute(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    mask: Tensor,
    *,
    chains: int = CHAINS,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    r"""Draw the missing features of each datum given the others, by Metropolis within Gibbs.

    A chain starts at a generated sample, and alternates

    .. math:: z \leftarrow z' \sim q(z' \mid x) \text{ with probability }
        \min\Big(1, \frac{p(x, z') \, q(z \mid x)}{p(x, z) \, q(z' \mid x)}\Big), \quad
        x_\text{missing} \sim p(x_\text{missing} \mid z)

    so that it leaves p(z, x_missing | x_seen) invariant, however rough the guide.

    Mattei and Frellsen 2018, Leveraging the Exact Likelihood of Deep Latent Variable Models;
    Rezende, Mohamed and Wierstra 2014, Stochastic Backpropagation and Approximate Inference in
    Deep Generative Models.

    Args:
        model: Pyro program of p(x, z), with features of x that are independent given z.
        guide: Pyro program of q(z | x).
        data: a split, columns by name, or an array of x; whatever stands where x is missing, NaN
            too, is not looked at.
        mask: boolean, true where x is seen, `(n, *shape)` or `(*shape)`.
        chains: imputations of each datum.
        steps: transitions of each chain.
        seed: seed of all draws.

    Returns:
        Imputed data, `(chains, n, *shape)`, on the CPU; what is seen is as it was.

    Raises:
        ValueError: if a count is not positive, the mask does not fit or is not boolean, or what is
            seen is NaN or infinite.
        Unavailable: if the features of x are not known to be independent given z.

    Example:
        >>> seen = torch.rand(x.shape) < 0.5
        >>> drawn = impute(pair.model, pair.guide, x, seen)
        >>> drawn.shape                          # chains, rows, and the shape of x
        torch.Size([16, 12, 1, 8, 8])
    """
    columns, seen = _masked(data, mask)
    if min(chains, steps) < 1:
        raise ValueError(f"chains and steps must be at least 1, got {chains} and {steps}")
    like = placement(model, guide)
    device = (columns["x"] if like is None else like).device
    size = max(1, _VALUES // (max(128, columns["x"][0].numel()) * chains))
    found = []
    with sealed(model, guide, device=device):
        for start, part in blocks({**columns, _MASK: seen}, size, like):
            reseed(device, seed, _STREAM, start)
            shown = part.pop(_MASK)
            x = _gibbs(model, guide, part, shown, chains, steps)
            found.append(x.unflatten(0, (chains, len(shown))).cpu())
    return torch.cat(found, 1)


@metric("likelihood", "density", "x", better="lower", slow=True)
def imputation_nll(draws: Draws) -> Estimate:
    """Negative log likelihood of the half of x that is hidden, given the half that is shown."""
    columns = thin(draws.columns, draws.few)
    mask, which = half_shown(columns["x"], draws.seed)
    found = missing_log_likelihood(
        draws.model, draws.guide, columns, mask, particles=draws.particles, seed=draws.seed
    )
    hidden = int((~mask[0]).sum())
    values = -found.log_likelihood
    if draws.units is not None and draws.quantity.is_density:
        values = values + rows_of(~mask).double() @ draws.units.scale.log()
    mean = Estimate.mean(
        values,
        kind="biased",
        unit="nats",
        particles=draws.particles,
        note=f"{which}: {hidden} of {mask[0].numel()} features; a difference of two K-sample "
        "bounds, exact as K grows",
        warnings=doubts_of(found, draws.particles),
    )
    return replace(mean, quantity=f"of hidden features, of {draws.quantity}")


def half_shown(x: Tensor, seed: int) -> tuple[Tensor, str]:
    """Return a mask that shows half of each datum, and which half it hides.

    Args:
        x: data, `(n, *shape)`: of images the upper half of the lines is shown, of vectors half of
            the features, drawn for each datum.
        seed: seed of the draw.

    Raises:
        Unavailable: if there is only one feature.
    """
    if x[0].numel() < 2:
        raise Unavailable("x has one feature: there is no half to hide")
    if x.dim() > 2 and x.shape[-2] > 1:
        lines = torch.arange(x.shape[-2]) < (x.shape[-2] + 1) // 2
        return lines.unsqueeze(-1).expand(x.shape), "the lower half is hidden"
    stream = torch.Generator().manual_seed(seed * 100 + _HALVES)
    order = torch.rand(len(x), x[0].numel(), generator=stream).argsort(1)
    return (order >= x[0].numel() // 2).reshape(x.shape), "a random half is hidden in each datum"


def missing_log_likelihood(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    mask: Tensor,
    *,
    particles: int = 1000,
    chains: int = CHAINS,
    steps: int = STEPS,
    seed: int = 0,
) -> Bounds:
    r"""Estimate the log likelihood of the features that a mask hides, given those that it shows.

    .. math:: \log p(x_\text{hidden} \mid x_\text{seen}) = \log p(x) - \log p(x_\text{seen})

    Both are K-sample bounds, so that the difference is bounded by neither side and is exact as K
    grows. The second draws from the mixture of the guide's posteriors at imputations x_c of the
    datum, which is the posterior given what is seen where guide and imputations are exact,

    .. math:: \log \frac{1}{K} \sum_k \frac{p(x_\text{seen}, z_k)}
        {\frac{1}{C} \sum_c q(z_k \mid x_c)}

    Mattei and Frellsen 2018, Leveraging the Exact Likelihood of Deep Latent Variable Models.

    Args:
        model: Pyro program of p(x, z), with features of x that are independent given z.
        guide: Pyro program of q(z | x).
        data: whole data: a split, columns by name, or an array of x.
        mask: boolean, true where x is shown, `(n, *shape)` or `(*shape)`.
        particles: importance samples K of each bound; for the second rounded up to a multiple of
            the chains.
        chains: imputations C that the proposals are built on.
        steps: transitions behind each imputation.
        seed: seed of all draws.

    Returns:
        The estimate in nats and the same at K = 1; the smaller effective sample size and the larger
        k-hat of the two bounds.

    Raises:
        ValueError: as `impute`; and if `particles` is not positive.
        Unavailable: as `impute`; and if the latents are not continuous, see `Joint`.
    """
    whole = log_likelihood(model, guide, data, particles, seed)
    drawn = impute(model, guide, data, mask, chains=chains, steps=steps, seed=seed)
    columns, seen = _masked(data, mask)
    like = placement(model, guide)
    device = (columns["x"] if like is None else like).device
    size = max(1, _VALUES // (max(128, columns["x"][0].numel()) * chains**2))
    parts = blocks({**columns, _MASK: seen, _DRAWN: drawn.movedim(0, 1)}, size, like)
    found = []
    with sealed(model, guide, device=device):
        for start, part in parts:
            reseed(device, seed, _PROPOSALS, start)
            shown, filled = part.pop(_MASK), part.pop(_DRAWN).movedim(1, 0).flatten(0, 1)
            found.append(_seen_bound(model, guide, part, shown, filled, particles, chains).cpu())
    part_bounds = Bounds(*torch.cat(found, 1))
    return Bounds(
        whole.log_likelihood - part_bounds.log_likelihood,
        whole.elbo - part_bounds.elbo,
        torch.minimum(whole.ess, part_bounds.ess),
        torch.maximum(whole.khat, part_bounds.khat),
    )


def _masked(data: Any, mask: Tensor) -> tuple[Columns, Tensor]:
    """Return the columns, zero where x is missing, and the mask of each row."""
    columns = read(data)
    if "x" not in columns:
        raise ValueError(f"data must have a column x, got {', '.join(columns)}")
    x = columns["x"]
    if mask.dtype != torch.bool or mask.shape not in (x.shape, x.shape[1:]):
        raise ValueError(
            f"mask must be boolean, of the shape {tuple(x.shape)} or {tuple(x.shape[1:])}, got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    mask = mask.to(x.device).expand(x.shape)
    return check({**columns, "x": x.where(mask, x.new_zeros(()))}), mask


def _gibbs(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    part: Columns,
    seen: Tensor,
    chains: int,
    steps: int,
) -> Tensor:
    """Return the chains' last data, `(chains * rows, *shape)`."""
    columns = {n: v.repeat(chains, *(1,) * (v.dim() - 1)) for n, v in part.items()}
    true, seen = columns["x"], seen.repeat(chains, *(1,) * (seen.dim() - 1))
    generated = generate(model, columns, len(true))["x"].to(true)
    columns["x"] = true.where(seen, generated)
    first = Phases(model, guide, columns=columns).awake
    coordinate_log_prob(first.distribution("x", of="model"), true)  # raises where dependent
    now = first.particle(0)
    for _ in range(steps):
        there = Phases(model, guide, columns=columns).awake
        here = Phases(model, guide, columns=columns, latents=now).awake
        distribution = there.distribution("x", of="model")
        change = (there.log_weight() - here.log_weight())[0]
        taken = torch.rand_like(change).log() < change
        proposed, kept = there.particle(0), now
        now = {n: _where(taken, proposed[n], kept[n], there.distribution(n)) for n in kept}
        draws = _where(
            taken, distribution.sample(), here.distribution("x", of="model").sample(), distribution
        )
        columns["x"] = true.where(seen, draws.to(true))
    return columns["x"]


def _where(taken: Tensor, a: Tensor, b: Tensor, distribution: Any) -> Tensor:
    """Choose between values row by row; rows are the last dimension left of the event."""
    return torch.where(taken.reshape(-1, *(1,) * len(distribution.event_shape)), a, b)


def _seen_bound(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    part: Columns,
    seen: Tensor,
    filled: Tensor,
    particles: int,
    chains: int,
) -> Tensor:
    """Bound log p(x_seen), `(4, rows)`; `filled` is x with the imputations, chain by chain."""
    rows = len(seen)
    columns = {n: v.repeat(chains, *(1,) * (v.dim() - 1)) for n, v in part.items()}
    columns["x"] = filled
    proposals = Joint(model, guide, columns)
    components = Joint(model, guide, columns, chains)
    target = Joint(model, guide, part, chains, mask=seen)
    rounds = -(-particles // chains)
    log_sum = seen.new_full((rows,), -math.inf, dtype=torch.float64)
    log_squares, total, tail = log_sum, torch.zeros_like(log_sum), Tail(rounds * chains)
    for _ in range(rounds):
        u = proposals.recognised().reshape(chains, rows, -1)
        log_q = components.guide_density(u.repeat(1, chains, 1)).unflatten(1, (chains, rows))
        mixture = log_q.double().logsumexp(1) - math.log(chains)
        log_w = target.log_density(u) - mixture.to(u)
        tail.add(log_w)
        log_w = log_w.double()
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        log_squares = torch.logaddexp(log_squares, (2 * log_w).logsumexp(0))
        total = total + log_w.sum(0)
    count = rounds * chains
    khat = tail.khat().to(log_sum) if tail.length else torch.full_like(log_sum, math.nan)
    ess = (2 * log_sum - log_squares).exp()
    return torch.stack([log_sum - math.log(count), total / count, ess, khat])
