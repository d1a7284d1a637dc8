"""How well a pair explains data: the bound on log p(x), and how far to trust it."""

from __future__ import annotations

import math

from priory.evaluation.draws import Draws
from priory.evaluation.metrics.metric import Metric, with_note
from priory.evaluation.record import Record, mean_record
from priory.evaluation.sets import Unavailable


def nll(draws: Draws) -> Record:
    """Negative log likelihood, by the K-sample bound; exact where there are no latents."""
    exact = not draws.density.latents
    values = draws.log_weight.log_likelihood
    record = mean_record(
        "nll",
        -values,
        seed=draws.seed,
        kind="exact" if exact else "upper bound",
        unit="nats",
        particles=None if exact else draws.particles,
    )
    if record.value is None:
        return record
    features = draws.x[0].numel()
    bits = record.value / (features * math.log(2))
    return with_note(record, f"{bits:.4g} bits per dim over {features} features")


def elbo(draws: Draws) -> Record:
    """Evidence lower bound, from the same log weights."""
    return mean_record(
        "elbo",
        draws.log_weight.elbo,
        seed=draws.seed,
        kind="lower bound",
        unit="nats",
        particles=draws.particles,
        note="bounds log p(x); averaged over the K samples of each datum",
    )


def ess(draws: Draws) -> Record:
    """Effective share of the K importance samples: how far to trust the nll."""
    if not draws.density.latents:
        raise Unavailable("the model has no latents: log p(x) is exact, nothing is sampled")
    share = draws.log_weight.ess / draws.particles
    record = mean_record("ess", share, seed=draws.seed, kind="biased", particles=draws.particles)
    poor = float((draws.log_weight.ess < 10).double().mean())
    note = "effective share of the K samples"
    if draws.particles > 10 and poor > 0.1:
        note += f"; {poor:.0%} of the data have fewer than 10 effective samples: take a larger K"
    return with_note(record, note)


ROWS: dict[str, Metric] = {
    "nll": Metric(nll, "likelihood", ("density", "log_weight"), "lower"),
    "elbo": Metric(elbo, "likelihood", ("density", "log_weight"), "higher"),
    "ess": Metric(ess, "likelihood", ("density", "log_weight")),
}
