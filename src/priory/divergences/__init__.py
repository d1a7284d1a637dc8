"""Divergences between two sample sets, (n, d) and (m, d): pure, differentiable, of shape ()."""

from collections.abc import Callable

from torch import Tensor

from priory.divergences.discrepancy import energy, mmd
from priory.divergences.kernels import IMQ_SCALES, KERNELS, RBF_SCALES
from priory.divergences.normals import gaussian, gaussian_mmd2, gaussian_wasserstein2
from priory.divergences.pairwise import squared_distances
from priory.divergences.slices import max_sliced, sliced
from priory.divergences.transport import sinkhorn
from priory.registry import registry

Divergence = Callable[[Tensor, Tensor], Tensor]
DIVERGENCES: dict[str, Callable[..., Tensor]] = registry(
    Divergence, (energy, gaussian, max_sliced, mmd, sinkhorn, sliced)
)

__all__ = [
    "DIVERGENCES",
    "IMQ_SCALES",
    "KERNELS",
    "RBF_SCALES",
    "Divergence",
    "energy",
    "gaussian",
    "gaussian_mmd2",
    "gaussian_wasserstein2",
    "max_sliced",
    "mmd",
    "sinkhorn",
    "sliced",
    "squared_distances",
]
