"""How near a pair's dreams and reconstructions come to data."""

from __future__ import annotations

from priory.evaluation.draws import Draws
from priory.evaluation.metrics.metric import Metric, check_finite
from priory.evaluation.record import Record, mean_record
from priory.evaluation.samples.kernels import mmd2
from priory.evaluation.sets import Unavailable


def reconstruction(draws: Draws) -> Record:
    """Mean squared error of the data against their reconstructions."""
    return mean_record(
        "reconstruction",
        draws.reconstructions.error,
        seed=draws.seed,
        kind="unbiased",
        unit="per feature",
        note="squared error of the mean of p(x | z) at one z ~ q(z | x)",
    )


def mmd(draws: Draws) -> Record:
    """Squared maximum mean discrepancy between dreams and data."""
    check_finite("dreams", draws.dreams)
    try:
        value, se = mmd2(draws.dreams, draws.real, draws.bandwidths)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"squared; {len(draws.dreams)} dreams against {len(draws.real)} data"
    return Record("mmd", value, se, len(draws.real), draws.seed, "unbiased", note=note)


ROWS: dict[str, Metric] = {
    "reconstruction": Metric(reconstruction, "samples", ("reconstructions",), "lower"),
    "mmd": Metric(mmd, "samples", ("dreams",), "lower", anchored=True),
}
