"""From nats per datum to bits per dimension."""

from __future__ import annotations

import math

from torch import Tensor

from priory.data.levels import level_spacing
from priory.data.steps import LENGTH
from priory.evaluation.draws import Draws
from priory.evaluation.likelihood.bound import doubts, kind_of, samples_of
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.inference.phases.sites import is_discrete


def nats_to_bits(nats: Tensor, features: int, spacing: float = 1.0) -> Tensor:
    r"""Return the negative log probability of data in bits per dimension.

    .. math:: \frac{-\log p(x)}{D \log 2} - \log_2 h

    where h is the distance of neighbouring levels, in the data's units: the mass of a level is the
    density times h. Of a mass p, h is 1.

    Args:
        nats: negative log density or mass of each datum, `(n,)`.
        features: D.
        spacing: the levels' distance h.

    Raises:
        ValueError: if features or spacing are not positive.

    Example:
        >>> nats_to_bits(torch.zeros(1), 784, 1 / 256)  # uniform on [0, 1)
        tensor([8.])
    """
    if features < 1 or not spacing > 0:
        raise ValueError(f"features and spacing must be positive, got {features} and {spacing}")
    return nats / (features * math.log(2)) - math.log2(spacing)


@metric("likelihood", "density", "x", "log_weight", better="lower")
def bits_per_dim(draws: Draws) -> Estimate:
    """Negative log likelihood in bits per dimension: of a mass, or of a density times a level."""
    observed = draws.density.observed
    if observed != ("x",):
        raise Unavailable(f"the nll is of {', '.join(observed)} together, not of x alone")
    if LENGTH in draws.quantity.given and len(set(draws.columns[LENGTH].tolist())) > 1:
        raise Unavailable("the rows are sequences of different lengths, of no one dimension")
    distribution, features, note = (
        draws.density.distribution("x", of="model"),
        draws.x[0].numel(),
        "",
    )
    kind = kind_of(draws, "upper bound")
    spacing, warnings, samples = 1.0, doubts(draws), samples_of(draws)
    x = draws.x if draws.units is None else draws.units.own(draws.x).float()
    if any(draws.quantity.columns):
        raise Unavailable(
            "x has a density of some columns and a mass of others, which have no bits together"
        )
    if not is_discrete(distribution):
        found = level_spacing(x)
        if found is None:
            raise Unavailable(
                "x has a density and lies on no levels, evenly spaced: a density alone has no bits"
            )
        spacing, kind = found, "biased"
        note = f"; density times the levels' distance {_distance(spacing)}"
        text = "a density on discrete levels: what stands for a level's mass is no bound on it"
        warnings += (Doubt(text, Remedy.LIKELIHOOD),)
    return Estimate.mean(
        nats_to_bits(-draws.log_weight.log_likelihood, features, spacing),
        kind=kind,
        unit="bits",
        particles=samples.get("particles"),
        note="; ".join([f"over {features} features{note}", *filter(None, [samples.get("note")])]),
        warnings=warnings,
    )


def _distance(spacing: float) -> str:
    """Write the levels' distance, as 1/L where it is."""
    levels = 1 / spacing
    whole = round(levels) > 1 and abs(levels - round(levels)) < 1e-4 * levels
    return f"1/{levels:.0f}" if whole else f"{spacing:.6g}"
