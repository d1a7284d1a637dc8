"""How nearly the codes of the data follow the prior, from samples alone: densities may lack."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.columns import rows_of, thin
from priory.evaluation.draws import Draws
from priory.evaluation.metrics.metric import Metric, check_finite
from priory.evaluation.record import Record
from priory.evaluation.samples.distances import sliced_wasserstein2
from priory.evaluation.samples.kernels import median_bandwidths, mmd2
from priory.evaluation.samples.pairwise import stream
from priory.evaluation.sets import Unavailable

_DIRECTIONS = 32  # random stream


def latent_mmd(draws: Draws) -> Record:
    """Squared maximum mean discrepancy between the data's codes and draws of the prior."""
    codes, prior, _ = _both(draws)
    try:
        value, se = mmd2(codes, prior, median_bandwidths(prior))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        "squared; RBF kernels around the prior's median distance; 0 in expectation where the codes "
        f"follow the prior; one code for each of {len(codes)} data, against as many of the prior"
    )
    return Record("latent_mmd", value, se, len(codes), draws.seed, "unbiased", note=note)


def latent_sliced(draws: Draws) -> Record:
    """Squared Wasserstein-2 distance between codes and prior, averaged over directions."""
    codes, prior, other = _both(draws)
    try:
        value, se = sliced_wasserstein2(codes, prior, stream(draws.seed, _DIRECTIONS))
        floor, _ = sliced_wasserstein2(other, prior, stream(draws.seed, _DIRECTIONS))
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = f"squared; the prior against itself: {floor:.2g}; one code for each of {len(codes)} data"
    return Record("latent_sliced", value, se, len(codes), draws.seed, "biased", note=note)


def _both(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Answer codes, and two sets of as many draws of the prior, `(n, d)` each."""
    return draws.once("codes and prior", lambda: _drawn(draws))


def _drawn(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    z = draws.latents.z
    if not z.is_floating_point():
        raise Unavailable(f"{draws.latent_site} holds whole numbers: there is no distance")
    check_finite("codes", z)
    codes = thin({"z": rows_of(z)}, draws.samples)["z"].cpu()
    prior = rows_of(draws.dream(draws.latent_site, 2 * len(codes)))
    return codes, prior[: len(codes)], prior[len(codes) :]


ROWS: dict[str, Metric] = {
    "latent_mmd": Metric(latent_mmd, "latents", ("latents",), "lower"),
    "latent_sliced": Metric(latent_sliced, "latents", ("latents",), "lower"),
}
