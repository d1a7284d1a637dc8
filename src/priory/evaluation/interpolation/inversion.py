"""The search for the point of a space whose mean is nearest to a datum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.interpolation.space import Joint, Space
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import rows_of

INVERSION = 300  # steps of the search
STARTS = 1000  # samples among which it begins at the nearest
_RATE = 0.1  # of Adam at the first step, in standard deviations of the samples' points


def invert(space: Space | Joint, x: Tensor, starts: Tensor, steps: int = INVERSION) -> Tensor:
    r"""Return the points whose means are nearest to data, :math:`\arg\min_u |f(T(u)) - x|^2`.

    Adam keeps each number's own scale, so that rows do not depend on one another.

    Args:
        space: of the model; to be called inside `sealed`.
        x: data, `(n, *shape)`.
        starts: points of samples, `(m, coordinates)`.
        steps: of the search, whose rate falls to 0.

    Returns:
        The best point on each way, `(n, coordinates)`.

    Raises:
        Unavailable: if p(x | z) gives its latent no gradient.
    """
    x, starts = rows_of(x).detach(), starts.to(x)
    images = torch.cat([rows_of(space.means(rows)) for rows in starts.split(500)])
    centre, scale = starts.mean(0), starts.std(0).clamp(min=torch.finfo(x.dtype).tiny)
    found = starts[torch.cdist(x, images).argmin(1)]
    least = torch.full_like(x[:, 0], math.inf)
    with torch.enable_grad():
        way = ((found - centre) / scale).requires_grad_()
        adam = torch.optim.Adam([way], lr=_RATE)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for step in range(steps + 1):
            points = centre + scale * way
            error = (rows_of(space.means(points)) - x).square().sum(1)
            better = error < least
            least = torch.where(better, error, least).detach()
            found = torch.where(better.unsqueeze(1), points, found).detach()
            if step == steps:
                break
            if not error.requires_grad:
                raise Unavailable(
                    f"the mean of p(x | {space.site}) has no gradient by {space.site}, along which "
                    "a datum's point could be searched for"
                )
            (way.grad,) = torch.autograd.grad(error.sum(), way)
            adam.step()
            falling.step()
    return found
