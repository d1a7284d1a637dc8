"""How near a pair's dreams and reconstructions come to data."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.columns import thin
from priory.evaluation.draws import Draws
from priory.evaluation.metrics import sample_features, sample_labels, sample_modes
from priory.evaluation.metrics.metric import Metric, check_finite, units_of
from priory.evaluation.record import Record, mean_record
from priory.evaluation.samples.distances import sliced_wasserstein2, wasserstein2
from priory.evaluation.samples.kernels import (
    Profile,
    discrepancies,
    hamming,
    imq,
    minus_distance,
    radial,
    rbf,
)
from priory.evaluation.samples.pairwise import stream
from priory.evaluation.samples.permutation import permutation_p
from priory.evaluation.sets import Sets, Unavailable
from priory.likelihoods.values import is_binary

_ASSIGNED = 500  # rows of each set: an assignment's cost grows with the cube
_PERMUTATIONS = 200
_PERMUTED_ROWS = 1000  # of each set
_PERMUTED, _DIRECTIONS = 30, 31  # random streams


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


def mmd(draws: Sets) -> Record:
    """Squared maximum mean discrepancy between dreams and data, by RBF kernels."""
    return _discrepancy(draws, "mmd", "squared; RBF kernels around the data's median distance")


def mmd_p(draws: Sets) -> Record:
    """Probability, were dreams and data of one law, of so great an mmd: a permutation test."""
    real, dreams = (thin({"x": x}, _PERMUTED_ROWS)["x"] for x in _alike(draws))
    try:
        kernel = radial(rbf(draws.bandwidths))
        random = stream(draws.seed, _PERMUTED)
        p, se = permutation_p(dreams, real, kernel, random, _PERMUTATIONS)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"{_PERMUTATIONS} permutations of {len(dreams)} dreams and {len(real)} data; never 0"
    return Record("mmd_p", p, se, len(real), draws.seed, "biased", note=note)


def mmd_imq(draws: Sets) -> Record:
    """Squared maximum mean discrepancy by inverse multiquadrics, whose tails see outliers."""
    note = "squared; inverse multiquadric kernels around the data's median distance"
    return _discrepancy(draws, "mmd_imq", note)


def mmd_hamming(draws: Sets) -> Record:
    """Squared maximum mean discrepancy of binary data, by the share of unequal features."""
    for what, x in (("data", draws.real), ("dreams", draws.dreams)):
        if not is_binary(x):
            raise Unavailable(f"the {what} are not binary")
    return _discrepancy(draws, "mmd_hamming", "squared; kernel exp(-share of unequal features)")


def energy(draws: Sets) -> Record:
    """Energy distance between dreams and data."""
    return _discrepancy(draws, "energy", "2 E|x - y| - E|x - x'| - E|y - y'|")


def sliced_wasserstein(draws: Sets) -> Record:
    """Squared Wasserstein-2 distance between dreams and data, averaged over directions."""
    real, dreams = _alike(draws)
    try:
        value, se = sliced_wasserstein2(dreams, real, stream(draws.seed, _DIRECTIONS))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"squared; {len(dreams)} dreams against {len(real)} data; above 0 under equal laws"
    return Record("sliced_wasserstein", value, se, len(real), draws.seed, "biased", note=note)


def wasserstein(draws: Sets) -> Record:
    """Squared Wasserstein-2 distance between dreams and data, by an exact assignment."""
    real, dreams = (thin({"x": x}, _ASSIGNED)["x"] for x in _alike(draws))
    try:
        value, se = wasserstein2(dreams, real)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        f"squared; {len(dreams)} dreams against {len(real)} data; far above 0 under equal laws: "
        "read it beside its anchors"
    )
    return Record("wasserstein", value, se, len(real), draws.seed, "biased", note=note)


def _discrepancy(draws: Sets, name: str, note: str) -> Record:
    """Answer one of the discrepancies that share their distances."""
    try:
        value, se = draws.once("discrepancies", lambda: _discrepancies(draws))[name]
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"{note}; {len(draws.dreams)} dreams against {len(draws.real)} data"
    return Record(name, value, se, len(draws.real), draws.seed, "unbiased", note=note)


def _discrepancies(draws: Sets) -> dict[str, tuple[float, float]]:
    check_finite("dreams", draws.dreams)
    widths = draws.bandwidths
    kernels: dict[str, Profile] = {
        "mmd": rbf(widths),
        "mmd_imq": imq(widths[len(widths) // 2]),
        "energy": minus_distance,
    }
    if is_binary(draws.real) and is_binary(draws.dreams):
        kernels["mmd_hamming"] = hamming(draws.real.shape[1])
    found = discrepancies(draws.dreams, draws.real, radial(*kernels.values()))
    return dict(zip(kernels, found, strict=True))


def _alike(draws: Sets) -> tuple[Tensor, Tensor]:
    """Answer as many data as dreams."""
    check_finite("dreams", draws.dreams)
    n = min(len(draws.real), len(draws.dreams))
    return thin({"x": draws.real}, n)["x"], thin({"x": draws.dreams}, n)["x"]


ROWS: dict[str, Metric] = {
    "reconstruction": Metric(
        reconstruction, "samples", ("reconstructions",), "lower", quantity=units_of
    ),
    "mmd": Metric(mmd, "samples", ("dreams",), "lower", anchored=True, quantity=units_of),
    "mmd_p": Metric(mmd_p, "samples", ("dreams",), anchored=True),
    "mmd_imq": Metric(mmd_imq, "samples", ("dreams",), "lower", anchored=True, quantity=units_of),
    "mmd_hamming": Metric(
        mmd_hamming, "samples", ("dreams",), "lower", anchored=True, quantity=units_of
    ),
    "energy": Metric(energy, "samples", ("dreams",), "lower", anchored=True, quantity=units_of),
    "sliced_wasserstein": Metric(
        sliced_wasserstein, "samples", ("dreams",), "lower", anchored=True, quantity=units_of
    ),
    "wasserstein": Metric(
        wasserstein, "samples", ("dreams",), "lower", anchored=True, quantity=units_of
    ),
    **sample_features.ROWS,
    **sample_modes.ROWS,
    **sample_labels.ROWS,
}
