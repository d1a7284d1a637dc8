"""How many sticks of a stick-breaking prior are in use, and whether the truncation cuts any off."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.inference.phases.arguments import owner
from priory.priors import StickBreaking

SHARE = 0.99  # of a stick
_CUT = 0.05  # of a stick, which is left beyond the truncation


def sticks_in_use(weights: Tensor, share: float = SHARE) -> Tensor:
    """Return the least number of weights that together hold a share of a datum's stick, `(n,)`.

    Args:
        weights: of each datum, `(n, sticks)`, which add up to 1.
        share: of the whole stick, below 1.

    Example:
        >>> sticks_in_use(torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]))
        tensor([2, 1])
    """
    held = weights.double().sort(-1, descending=True).values.cumsum(-1)
    return (held < share - 1e-9).sum(-1) + 1


@metric("latents", "latents")
def sticks(draws: Draws) -> Estimate:
    """Count of the sticks of a stick-breaking prior that a datum uses."""
    prior = getattr(owner(draws.model), "prior", None)
    if not isinstance(prior, StickBreaking):
        raise Unavailable("the pair has no stick-breaking prior")
    check_finite("latents", draws.latents.z)
    weights = prior.weights(draws.latents.z.double())
    rest = float(weights[:, -1].mean())
    concentration = float(prior().base_dist.concentration0[0])
    how = "learned" if prior.learned else "fixed"
    note = (
        f"of {weights.shape[1]}: the fewest that hold {SHARE:.0%} of a datum's stick, for one draw "
        f"of z per datum; concentration {concentration:.3g}, {how}; {rest:.2g} of the stick is "
        "left beyond the last break"
    )
    text = f"{rest:.0%} of the stick is left beyond the truncation: take a larger latent"
    cut = (Doubt(text, Remedy.LATENTS),) if rest > _CUT else ()
    values = sticks_in_use(weights).double().cpu()
    return Estimate.mean(values, kind="unbiased", note=note, warnings=cut)
