"""Discrepancies by kernels: maximum mean discrepancy and energy distance."""

from torch import Tensor

from priory.divergences.kernels import KERNELS, MEDIAN, Width, median_square, minus_distance
from priory.divergences.pairwise import BLOCK, Profile, mean_between, mean_within, sample_sets
from priory.lookup import named


def mmd(
    a: Tensor,
    b: Tensor,
    kernel: str = "imq",
    scale: float | None = None,
    unbiased: bool = True,
    block: int = BLOCK,
) -> Tensor:
    r"""Return the squared maximum mean discrepancy.

    .. math:: \mathrm{MMD}^2 = E\,k(a, a') + E\,k(b, b') - 2 E\,k(a, b)

    Gretton, Borgwardt, Rasch, Schoelkopf and Smola, 2012, A kernel two-sample test. The kernels,
    with r = |a - b| and s the scale, are

    - "imq": the sum over c of C / (C + r^2) with C = 2 d s^2 c for c from 0.1 to 10 (Tolstikhin
      et al., 2018, Wasserstein auto-encoders);
    - "rbf": exp(-r^2 / (2 s^2));
    - "rbf-mixture": the mean of five of these, of scales from s / 4 to 4 s;
    - "energy": -r / s.

    Args:
        a: Samples, (n, d), n > 1.
        b: Samples, (m, d), m > 1.
        kernel: "imq", "rbf", "rbf-mixture" or "energy".
        scale: Length scale s in the samples' units. By default 1 for "imq", which suits latents
            under a standard normal prior, and for "energy"; for "rbf" and "rbf-mixture" the median
            distance between all samples.
        unbiased: Whether to leave each sample's kernel with itself out; the value can then be
            negative, and its mean is 0 under equality.
        block: Pairs of samples held at a time; larger sets are compared block by block.

    Raises:
        ValueError: The shapes don't fit, or there is no such kernel, or the scale or the block
            isn't positive.

    Example:
        >>> import torch
        >>> mmd(torch.zeros(4, 2), torch.zeros(3, 2)).item()
        0.0
    """
    a, b = sample_sets(a, b, least=2)
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    k, d = named("kernel", kernel, KERNELS), a.shape[1]
    width: Width = 1.0 if scale is None else scale**2
    if scale is None and kernel in MEDIAN:
        width = median_square(a, b)
    return _discrepancy(a, b, lambda squares: k(squares, width, d), unbiased, block)


def energy(a: Tensor, b: Tensor, unbiased: bool = True, block: int = BLOCK) -> Tensor:
    r"""Return the energy distance.

    .. math:: 2 E|a - b| - E|a - a'| - E|b - b'|

    Szekely and Rizzo, 2013, Energy statistics.

    Args:
        a: Samples, (n, d), n > 1.
        b: Samples, (m, d), m > 1.
        unbiased: Whether to leave each sample's distance to itself out.
        block: Pairs of samples held at a time; larger sets are compared block by block.

    Raises:
        ValueError: The shapes don't fit, or the block isn't positive.
    """
    a, b = sample_sets(a, b, least=2)
    return _discrepancy(a, b, minus_distance, unbiased, block)


def _discrepancy(a: Tensor, b: Tensor, profile: Profile, unbiased: bool, block: int) -> Tensor:
    if block < 1:
        raise ValueError(f"block must be positive, got {block}")
    own = [mean_within(c, profile, unbiased, block) for c in (a, b)]
    return own[0] + own[1] - 2 * mean_between(a, b, profile, block)
