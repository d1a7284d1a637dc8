"""How near a pair's reconstructions come to the data."""

from __future__ import annotations

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric, units_of


@metric("samples", "reconstructions", better="lower", quantity=units_of)
def reconstruction(draws: Draws) -> Estimate:
    """Mean squared error of the data against their reconstructions."""
    return Estimate.mean(
        draws.reconstructions.error,
        kind="unbiased",
        unit="per feature",
        note="squared error of the mean of p(x | z) at one z ~ q(z | x)",
    )
