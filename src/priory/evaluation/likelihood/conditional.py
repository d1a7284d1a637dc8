"""Log likelihood of x given what else is known of a datum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.bound import doubts, log_likelihood
from priory.evaluation.record import Estimate, Kind, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.rows import Columns, blocks, check, read
from priory.inference.modules import device_of
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import is_latent, is_observation

_STREAM = 14
_VALUES = 2**22  # numbers of one array


class Conditional(NamedTuple):
    """log p(x | y) of each datum.

    Args:
        log_likelihood: in nats, `(n,)`, float64, on the CPU.
        given: names of the columns y.
        observed: those that the model gives a density.
        exact: whether log p(y) is exact: then the log likelihood is a lower bound.
    """

    log_likelihood: Tensor
    given: tuple[str, ...]
    observed: tuple[str, ...]
    exact: bool


def conditional_log_likelihood(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    particles: int = 1000,
    seed: int = 0,
    joint: Tensor | None = None,
) -> Conditional:
    r"""Bound log p(x | y), y being all that the model takes or observes besides x.

    .. math:: \log p(x \mid y) = \log p(x, y) - \log p(y), \quad
        p(y) = \mathbb{E}_{z \sim p} \, p(y \mid z)

    Columns that the model takes as arguments alone have no density: the K-sample bound is of
    log p(x | y) already, and nothing is taken off. From observed columns log p(y) is taken off.
    Where y does not depend on any latent it is exact; else it is estimated by K draws from the
    prior, and the difference bounds nothing.

    Args:
        model: Pyro program of p(x, z, y) or p(x, z | y).
        guide: Pyro program of q(z | x, y).
        data: a split or columns by name.
        particles: samples K per datum of either estimate.
        seed: seed of all draws.
        joint: the K-sample bound, if it is known already, `(n,)`.

    Raises:
        ValueError: if `particles` is not positive, or the data are empty, NaN or infinite.
        Unavailable: if the model has nothing but x.

    Example:
        >>> from priory.models import CVAE
        >>> pair = CVAE(latent=2)
        >>> pair.build(x, y)
        >>> conditional_log_likelihood(pair.model, pair.guide, {"x": x, "y": y}).given
        ('y',)
    """
    columns = check(read(data))
    if joint is None:
        joint = log_likelihood(model, guide, columns, particles, seed).log_likelihood
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    with sealed(model, guide, device=device):
        reseed(device, seed, _STREAM)
        two = next(blocks(columns, 2, like))[1]
        sites = _generate(model, two, ())
        observed = tuple(n for n, s in sites.items() if is_observation(s) and n != "x")
        taken = [n for n in bind(model, columns) if n not in ("x", "index")]
        given = tuple(dict.fromkeys([*taken, *observed]))
        if not given:
            raise Unavailable("the model neither takes nor observes anything besides x")
        if stray := [n for n in observed if n not in columns]:
            raise Unavailable(f"the model observes {stray[0]}, which is no column of the data")
        if not observed:
            return Conditional(joint, given, observed, exact=True)
        marginal, exact = _marginal(model, columns, observed, particles, seed, like)
    return Conditional(joint - marginal, given, observed, exact)


@metric("likelihood", "density", "x", "log_weight", better="lower", slow=True)
def conditional_nll(draws: Draws) -> Estimate:
    """Negative log likelihood of x given the labels or whatever else the model knows of a datum."""
    found = conditional_log_likelihood(
        draws.model,
        draws.guide,
        draws.columns,
        particles=draws.particles,
        seed=draws.seed,
        joint=draws.log_weight.log_likelihood,
    )
    given, seen = ", ".join(found.given), ", ".join(found.observed)
    note = f"-log p(x | {given})"
    if seen:
        how = "exact" if found.exact else f"estimated by {draws.particles} draws from the prior"
        note += f", log p({seen}) {how} and taken off"
    exact = found.exact and draws.exact
    bound: Kind = "upper bound" if found.exact else "biased"
    mean = Estimate.mean(
        -found.log_likelihood,
        kind="exact" if exact else bound,
        unit="nats",
        particles=None if exact else draws.particles,
        note=note,
        warnings=doubts(draws),
    )
    return replace(mean, quantity=str(draws.quantity.only(("x",), found.given)))


def _marginal(
    model: Callable[..., Any],
    columns: Columns,
    observed: tuple[str, ...],
    particles: int,
    seed: int,
    like: Tensor | None,
) -> tuple[Tensor, bool]:
    """Estimate log p(y), `(n,)`, and say whether it is exact."""
    values = max(128, *(c[0].numel() for c in columns.values()))
    rows, exact = max(1, _VALUES // (values * min(particles, 50))), True
    found = []
    for start, part in blocks(columns, rows, like):
        first = next(iter(part.values()))
        reseed(first.device, seed, _STREAM, start)
        score = _scores(model, part, observed, 2)
        if (score - score[0]).abs().max() <= 1e-6 * score.abs().max().clamp(min=1.0):
            found.append(score[0].cpu())
            continue
        exact, done = False, 2
        total = score.logsumexp(0)
        while done < particles:
            now = min(50, particles - done)
            total = torch.logaddexp(total, _scores(model, part, observed, now).logsumexp(0))
            done += now
        found.append((total - math.log(done)).cpu())
    return torch.cat(found), exact


def _scores(
    model: Callable[..., Any], part: Columns, observed: tuple[str, ...], copies: int
) -> Tensor:
    """Return log p(y | latents of the prior), `(copies, rows)`, float64."""
    repeated = {n: v.repeat(copies, *(1,) * (v.dim() - 1)) for n, v in part.items()}
    sites = _generate(model, repeated, observed)
    score = Phase({n: sites[n] for n in observed}, {}).log_p()[0]
    return score.double().reshape(copies, -1)


def _generate(model: Callable[..., Any], part: Columns, held: tuple[str, ...]) -> dict[str, Any]:
    """Run the model on its own draws, all but those of the held sites."""
    recorder = Recorder({n: part[n] for n in held}, draw_observed=True)
    with recorder:
        model(**bind(model, part))
    return {n: s for n, s in recorder.sites.items() if is_latent(s) or is_observation(s)}
