"""Divergences between two sample sets, (n, d) and (m, d): pure, differentiable, of shape ()."""

from collections.abc import Callable

from torch import Tensor

from priory.divergences.discrepancy import energy, mmd
from priory.divergences.kernels import IMQ_SCALES, KERNELS, RBF_SCALES
from priory.divergences.normals import gaussian, gaussian_mmd2, gaussian_wasserstein2
from priory.divergences.pairwise import squared_distances
from priory.divergences.slices import max_sliced, sliced
from priory.divergences.transport import sinkhorn

DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "energy": energy,
    "gaussian": gaussian,
    "max-sliced": max_sliced,
    "mmd": mmd,
    "sinkhorn": sinkhorn,
    "sliced": sliced,
}

__all__ = [
    "DIVERGENCES",
    "IMQ_SCALES",
    "KERNELS",
    "RBF_SCALES",
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
