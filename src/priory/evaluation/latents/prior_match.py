"""Whether the codes of data follow the prior."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.samples.discrepancy import mmd2
from priory.evaluation.samples.pairwise import median_bandwidths, stream
from priory.evaluation.samples.transport import sliced_wasserstein2

_DIRECTIONS = 32  # random stream


@metric("latents", "latents", better="lower")
def latent_mmd(draws: Draws) -> Estimate:
    """Squared maximum mean discrepancy between the data's codes and draws of the prior."""
    codes, prior, _ = _codes_and_prior(draws)
    value, se = mmd2(codes, prior, median_bandwidths(prior))
    note = (
        "squared; RBF kernels around the prior's median distance; 0 in expectation where the codes "
        f"follow the prior; one code for each of {len(codes)} data, against as many of the prior"
    )
    return Estimate(value, se, len(codes), "unbiased", note=note)


@metric("latents", "latents", better="lower")
def latent_sliced(draws: Draws) -> Estimate:
    """Squared Wasserstein-2 distance between codes and prior, averaged over directions."""
    codes, prior, other = _codes_and_prior(draws)
    value, se = sliced_wasserstein2(codes, prior, stream(draws.seed, _DIRECTIONS))
    floor, _ = sliced_wasserstein2(other, prior, stream(draws.seed, _DIRECTIONS))
    note = f"squared; the prior against itself: {floor:.2g}; one code for each of {len(codes)} data"
    return Estimate(value, se, len(codes), "biased", note=note)


@once
def _codes_and_prior(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, and two sets of as many draws of the prior, `(n, d)` each."""
    z = draws.latents.z
    if not z.is_floating_point():
        raise Unavailable(f"{draws.latent_site} holds integers: there is no distance")
    check_finite("codes", z)
    codes = thin({"z": rows_of(z)}, draws.n_samples)["z"].cpu()
    prior = rows_of(draws.generate(draws.latent_site, 2 * len(codes)))
    return codes, prior[: len(codes)], prior[len(codes) :]
