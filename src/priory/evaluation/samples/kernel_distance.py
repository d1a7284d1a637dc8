"""The kernel distance between the features of samples and data."""

from __future__ import annotations

from torch import Tensor

from priory.evaluation.record import Estimate
from priory.evaluation.registry import metric
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples.discrepancy import discrepancies
from priory.evaluation.samples.features import feature_sets, features_quantity


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def kernel_distance(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy of features by a cubic kernel, the kernel distance."""
    real, generated, text = feature_sets(draws)
    value, se = discrepancies(generated, real, cubic)[0]
    return Estimate(value, se, len(real), "unbiased", note=text)


def cubic(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the kernel :math:`(u \cdot v / d + 1)^3`, `(1, n, m)`.

    Binkowski, Sutherland, Arbel and Gretton 2018, Demystifying MMD GANs.

    Args:
        a: samples, `(n, d)`.
        b: samples, `(m, d)`.
    """
    return ((a @ b.mT) / a.shape[1] + 1).pow(3).unsqueeze(0)
