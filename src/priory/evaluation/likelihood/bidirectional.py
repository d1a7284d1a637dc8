"""Bidirectional Monte Carlo: how far annealing is from the truth, on data whose truth is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.ais import (
    CHAINS,
    HOW,
    SHARPNESS,
    Initial,
    Path,
    block_rows,
    chain_doubts,
)
from priory.evaluation.likelihood.hmc import LEAPFROGS
from priory.evaluation.likelihood.joint import Joint
from priory.evaluation.likelihood.quantity import likelihood_of
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.rows import blocks, check, read, thin
from priory.inference.modules import device_of
from priory.inference.phases.phases import generate

_STREAM = 11


class Sandwich(NamedTuple):
    """Both bounds on log p(x) of simulated data, each `(n,)`, in nats, float64, on the CPU.

    Args:
        lower: by annealing forwards, in expectation.
        upper: by annealing back from the latent that the datum was made of, in expectation.
        ess: effective number of the forward chains.
        reverse_ess: effective number of the reverse chains.
        x: the simulated data, those of the first observed site, `(n, *shape)`.
    """

    lower: Tensor
    upper: Tensor
    ess: Tensor
    reverse_ess: Tensor
    x: Tensor


def bidirectional(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    steps: int = 1000,
    chains: int = CHAINS,
    initial: Initial = "prior",
    leapfrogs: int = LEAPFROGS,
    sharpness: float = SHARPNESS,
    seed: int = 0,
) -> Sandwich:
    r"""Sandwich log p(x) of data that the model itself generates.

    .. math:: (z, x) \sim p(z, x): \quad \log \frac{1}{C} \sum_c w_c \le \log p(x) \le
        -\log \frac{1}{C} \sum_c \frac{1}{w'_c}

    in expectation. The latent of a generated sample is an exact draw of its posterior: from there
    the reverse chains w' start. The gap bounds the mean error of annealing on generated samples;
    that on real data is near it as far as the samples are like the data.

    Grosse, Ghahramani and Adams 2015, Sandwiching the Marginal Likelihood Using Bidirectional Monte
    Carlo; Wu, Burda, Salakhutdinov and Grosse 2017, On the Quantitative Analysis of Decoder-Based
    Generative Models.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        data: one sample is made per row: a split, columns by name, or an array of x.
        steps: temperatures T.
        chains: C for each datum, in each direction.
        initial: the distribution that the forward chains start from.
        leapfrogs: of each transition.
        sharpness: of the schedule; see `ais.schedule`.
        seed: seed of all draws.

    Raises:
        ValueError: if a count is not positive, or the data are empty, NaN or infinite.
        Unavailable: if the latents cannot be moved by gradients, or a sample of the model does not
            replace all that it observes.

    Example:
        >>> found = bidirectional(pair.model, pair.guide, x, steps=10)
        >>> (found.upper - found.lower).shape
        torch.Size([12])
    """
    columns = check(read(data))
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    found = []
    with sealed(model, guide, device=device):
        for start, part in blocks(columns, block_rows(columns, chains), like):
            reseed(device, seed, _STREAM, start)
            n = len(next(iter(part.values())))
            observed = Joint(model, guide, part).observed
            if missing := [name for name in observed if name not in part]:
                raise Unavailable(
                    f"the model observes {missing[0]}, which is no column of the data"
                )
            drawn = {k: v for k, v in generate(model, part, n).items() if not k.endswith("_mean")}
            generated = {k: drawn[k].to(v) if k in drawn else v for k, v in part.items()}
            path = Path(model, guide, generated, steps, initial, leapfrogs, sharpness)
            lower = path.forward(chains)
            upper = path.reverse(chains, drawn)
            found.append(
                (
                    lower.log_likelihood,
                    upper.log_likelihood,
                    lower.ess,
                    upper.ess,
                    generated[observed[0]],
                )
            )
    return Sandwich(*(torch.cat(column).cpu() for column in zip(*found, strict=True)))


@metric("likelihood", "density", better="lower", slow=True, quantity=likelihood_of)
def bdmc(draws: Draws) -> Estimate:
    """Bound on the mean error of annealing: reverse less forward estimate, on own samples."""
    few, volume = thin(draws.columns, draws.few), draws.log_scale
    found = bidirectional(draws.model, draws.guide, few, steps=draws.steps, seed=draws.seed)
    low, high = (float(part.mean()) - volume for part in (found.lower, found.upper))
    return Estimate.mean(
        found.upper - found.lower,
        kind="upper bound",
        unit="nats",
        steps=draws.steps,
        note=f"{draws.quantity.name} of the samples lies between {low:.2f} and {high:.2f} on "
        f"average; {HOW}",
        warnings=chain_doubts(found.ess),
    )
