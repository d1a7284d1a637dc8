"""How near a pair's samples and reconstructions come to data."""

from __future__ import annotations

from torch import Tensor

from priory.divergences.pairwise import Profile
from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric, units_of
from priory.evaluation.rows import thin
from priory.evaluation.sample_sets import Sets, Unavailable
from priory.evaluation.samples.distances import sliced_wasserstein2, wasserstein2
from priory.evaluation.samples.kernels import (
    discrepancies,
    hamming,
    imq,
    minus_distance,
    radial,
    rbf,
)
from priory.evaluation.samples.pairwise import stream
from priory.evaluation.samples.permutation import permutation_p
from priory.likelihoods.values import is_binary

_ASSIGNED = 500  # rows of each set: an assignment's cost grows with the cube
_PERMUTATIONS = 200
_PERMUTED_ROWS = 1000  # of each set
_PERMUTED, _DIRECTIONS = 30, 31  # random streams


@metric("samples", "reconstructions", better="lower", quantity=units_of)
def reconstruction(draws: Draws) -> Estimate:
    """Mean squared error of the data against their reconstructions."""
    return Estimate.mean(
        draws.reconstructions.error,
        kind="unbiased",
        unit="per feature",
        note="squared error of the mean of p(x | z) at one z ~ q(z | x)",
    )


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy between samples and data, by RBF kernels."""
    return _discrepancy(draws, "mmd", "squared; RBF kernels around the data's median distance")


@metric("samples", "generated", anchored=True)
def mmd_p(draws: Sets) -> Estimate:
    """p-value of the mmd, were samples and data of one distribution: a permutation test."""
    real, generated = (thin({"x": x}, _PERMUTED_ROWS)["x"] for x in _alike(draws))
    try:
        kernel = radial(rbf(draws.bandwidths))
        random = stream(draws.seed, _PERMUTED)
        p, se = permutation_p(generated, real, kernel, random, _PERMUTATIONS)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"{_PERMUTATIONS} permutations of {len(generated)} samples and {len(real)} data; never 0"
    return Estimate(p, se, len(real), "biased", note=note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd_imq(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy by inverse multiquadrics, whose tails see outliers."""
    note = "squared; inverse multiquadric kernels around the data's median distance"
    return _discrepancy(draws, "mmd_imq", note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def mmd_hamming(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy of binary data, by the share of unequal features."""
    for what, x in (("data", draws.real), ("samples", draws.generated)):
        if not is_binary(x):
            raise Unavailable(f"the {what} are not binary")
    return _discrepancy(draws, "mmd_hamming", "squared; kernel exp(-share of unequal features)")


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def energy(draws: Sets) -> Estimate:
    """Energy distance between samples and data."""
    return _discrepancy(draws, "energy", "2 E|x - y| - E|x - x'| - E|y - y'|")


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def sliced_wasserstein(draws: Sets) -> Estimate:
    """Squared Wasserstein-2 distance between samples and data, averaged over directions."""
    real, generated = _alike(draws)
    try:
        value, se = sliced_wasserstein2(generated, real, stream(draws.seed, _DIRECTIONS))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    sizes = f"{len(generated)} samples against {len(real)} data"
    note = f"squared; {sizes}; above 0 under equal distributions"
    return Estimate(value, se, len(real), "biased", note=note)


@metric("samples", "generated", better="lower", anchored=True, quantity=units_of)
def wasserstein(draws: Sets) -> Estimate:
    """Squared Wasserstein-2 distance between samples and data, by an exact assignment."""
    real, generated = (thin({"x": x}, _ASSIGNED)["x"] for x in _alike(draws))
    try:
        value, se = wasserstein2(generated, real)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        f"squared; {len(generated)} samples against {len(real)} data; far above 0 under equal "
        "distributions: read it beside its anchors"
    )
    return Estimate(value, se, len(real), "biased", note=note)


def _discrepancy(draws: Sets, name: str, note: str) -> Estimate:
    """Return one of the discrepancies that share their distances."""
    try:
        value, se = draws.once("discrepancies", lambda: _discrepancies(draws))[name]
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"{note}; {len(draws.generated)} samples against {len(draws.real)} data"
    return Estimate(value, se, len(draws.real), "unbiased", note=note)


def _discrepancies(draws: Sets) -> dict[str, tuple[float, float]]:
    check_finite("samples", draws.generated)
    widths = draws.bandwidths
    kernels: dict[str, Profile] = {
        "mmd": rbf(widths),
        "mmd_imq": imq(widths[len(widths) // 2]),
        "energy": minus_distance,
    }
    if is_binary(draws.real) and is_binary(draws.generated):
        kernels["mmd_hamming"] = hamming(draws.real.shape[1])
    found = discrepancies(draws.generated, draws.real, radial(*kernels.values()))
    return dict(zip(kernels, found, strict=True))


def _alike(draws: Sets) -> tuple[Tensor, Tensor]:
    """Return as many data as samples."""
    check_finite("samples", draws.generated)
    n = min(len(draws.real), len(draws.generated))
    return thin({"x": draws.real}, n)["x"], thin({"x": draws.generated}, n)["x"]
