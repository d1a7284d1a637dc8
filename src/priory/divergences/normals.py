"""Two sets as normal distributions, and what two normal distributions are apart."""

import math

import torch
from torch import Tensor

from priory.divergences.pairwise import product, sample_sets


def gaussian(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the squared Wasserstein-2 distance between the two sets' fitted normals.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}\,(\Sigma_a + \Sigma_b)
        - 2\,\mathrm{tr}\,(\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2}

    Dowson and Landau, 1982, The Frechet distance between multivariate normal distributions. The
    last trace is the sum of the singular values of x y', x and y being the centred sets over the
    roots of n - 1 and m - 1. With u and v the singular vectors it is a bilinear function of x
    and y, whose gradient is exact and bounded for covariances of any rank, sets smaller than their
    dimension included. Gradients of gradients leave out the change of u and v.

    Args:
        a: Samples, (n, d), n > 1.
        b: Samples, (m, d), m > 1.

    Raises:
        ValueError: The shapes don't fit.
    """
    a, b = sample_sets(a, b, least=2)
    mean_a, mean_b = a.mean(0), b.mean(0)
    x = (a - mean_a) / math.sqrt(len(a) - 1)
    y = (b - mean_b) / math.sqrt(len(b) - 1)
    u, v = _singular_vectors(x.detach(), y.detach())
    common = (product(x.mT, u) * product(y.mT, v)).sum()
    return (mean_a - mean_b).square().sum() + x.square().sum() + y.square().sum() - 2 * common


def _singular_vectors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular vectors of x y', (n, r) and (m, r), those of value 0 replaced by 0."""
    (base_x, on_x), (base_y, on_y) = torch.linalg.qr(x), torch.linalg.qr(y)
    u, values, v = torch.linalg.svd(product(on_x, on_y.mT), full_matrices=False)
    kept = (values > _negligible(values)).to(x.dtype)
    return product(base_x, u * kept), product(base_y, v.mT)


def _negligible(values: Tensor) -> Tensor:
    return values.amax() * len(values) * torch.finfo(values.dtype).eps


def gaussian_wasserstein2(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> Tensor:
    r"""Return the squared Wasserstein-2 distance between two normals, shape ().

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}\,(A + B) - 2\,\mathrm{tr}\,(A^{1/2} B A^{1/2})^{1/2}

    Gelbrich, 1990, On a formula for the L2 Wasserstein metric between measures on Euclidean and
    Hilbert spaces. The trace of the root is (tr T A + tr T' B) / 2, with T the map from one normal
    to the other and T' that back; at these maps their own change does not matter, so that they are
    held. Where a covariance is singular, its map is that on its range.

    Args:
        mean_a: mean, (d,).
        covariance_a: covariance A, (d, d).
        mean_b: mean, (d,).
        covariance_b: covariance B, (d, d).

    Raises:
        ValueError: The shapes don't fit.

    Example:
        >>> one = torch.eye(2)
        >>> gaussian_wasserstein2(torch.zeros(2), one, torch.ones(2), 4 * one).item()
        4.0
    """
    _check(mean_a, covariance_a, mean_b, covariance_b)
    (root_a, inverse_a), (root_b, inverse_b) = (
        _roots(c.detach()) for c in (covariance_a, covariance_b)
    )
    u, values, v = torch.linalg.svd(product(root_a, root_b))
    there = inverse_a @ (u * values) @ u.mT @ inverse_a
    back = inverse_b @ (v.mT * values) @ v @ inverse_b
    common = 0.5 * ((there * covariance_a).sum() + (back * covariance_b).sum())
    traces = covariance_a.trace() + covariance_b.trace()
    return (mean_a - mean_b).square().sum() + traces - 2 * common


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric root of a covariance, and that of its pseudo-inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > _negligible(values)
    root = torch.where(kept, values, 1.0).sqrt()
    return (vectors * (root * kept)) @ vectors.mT, (vectors * (kept / root)) @ vectors.mT


def gaussian_mmd2(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor, scale: float = 1.0
) -> Tensor:
    r"""Return the squared maximum mean discrepancy between two normals under an RBF kernel.

    .. math:: K(0, 2A) + K(0, 2B) - 2 K(\mu_a - \mu_b, A + B), \quad
        K(\delta, S) = |I + S / s^2|^{-1/2} e^{-\delta' (S + s^2 I)^{-1} \delta / 2}

    What `mmd(a, b, "rbf", scale)` estimates.

    Args:
        mean_a: mean, (d,).
        covariance_a: covariance A, (d, d).
        mean_b: mean, (d,).
        covariance_b: covariance B, (d, d).
        scale: length scale s of the kernel.

    Raises:
        ValueError: The shapes don't fit, or the scale isn't positive.
    """
    _check(mean_a, covariance_a, mean_b, covariance_b)
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    shift, one = mean_a - mean_b, torch.eye(len(mean_a)).to(covariance_a)

    def kernel(shift: Tensor, covariance: Tensor) -> Tensor:
        total = covariance / scale**2 + one
        exponent = shift @ torch.linalg.solve(total, shift) / scale**2
        return torch.exp(-0.5 * (exponent + torch.linalg.slogdet(total).logabsdet))

    own = kernel(0 * shift, 2 * covariance_a) + kernel(0 * shift, 2 * covariance_b)
    return own - 2 * kernel(shift, covariance_a + covariance_b)


def _check(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> None:
    d = mean_a.shape[-1] if mean_a.dim() else 0
    shapes = [tuple(t.shape) for t in (mean_a, covariance_a, mean_b, covariance_b)]
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise ValueError(
            f"expected means of shape (d,) and covariances of shape (d, d), got {shapes}"
        )
