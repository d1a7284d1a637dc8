"""Learned codes, one for each training row, and the normal distribution fitted to them."""

import math
from typing import Any, Literal

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor, nn

from priory.lookup import positive
from priory.priors.base import Encode, Prior

_JITTER = 1e-6  # of the mean variance, so that a covariance can be factorised


class Codes(Prior):
    r"""A learned code in the unit ball for each training row; the prior is fitted to all of them.

    .. math:: p(z) = N(z; \bar z, \mathrm{Cov}(z_i))

    Bojanowski, Joulin, Lopez-Paz and Szlam, 2018, Optimizing the latent space of generative
    networks. The fit carries no gradient.

    Args:
        rows: Number of codes; by default that of the training rows that `build` sees.
        start: "principal" for the whitened principal components of the training rows, as far as
            there are any and `build` sees all rows; "normal" for normal draws. Either has an
            expected square length of 1.
        rate: By how much the codes move faster than their table, in whose units an optimiser takes
            its steps.

    Raises:
        ValueError: A number isn't positive, or there is no such start.

    Example:
        >>> prior = Codes()
        >>> prior.build(3, torch.zeros(20, 4))
        >>> prior.of(torch.tensor([0, 19])).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        rows: int | None = None,
        start: Literal["principal", "normal"] = "principal",
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        if start not in ("principal", "normal"):
            raise ValueError(f"start must be 'principal' or 'normal', got {start!r}")
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate}")
        self.rows = None if rows is None else positive("rows", rows)
        self.start = start
        self.rate = rate

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the codes to start from, (rows, latent)."""
        self.rows = self.rows or len(x)
        start = torch.randn(self.rows, latent, dtype=x.dtype, device=x.device)
        if self.start == "principal" and self.rows == len(x):
            found = _whitened(x.detach().flatten(1), latent)
            start[:, : found.shape[1]] = found
        self.table = nn.Parameter(start / (math.sqrt(latent) * self.rate))

    def of(self, index: Tensor) -> Tensor:
        """Return the codes of training rows, (*batch, latent).

        Args:
            index: Numbers of the rows, (*batch).

        Raises:
            ValueError: There is no such row.
        """
        try:
            picked = self.table[index]
        except IndexError as error:
            raise ValueError(
                f"there are codes for {len(self.table)} training rows, got row "
                f"{int(index.max())}: fit a new pair to other data, and of data too many to be "
                "seen at once give their number, rows="
            ) from error
        found: Tensor = _Projected.apply(self.rate * picked)
        return found

    def distribution(self) -> TorchDistribution:
        """Return the normal distribution with the codes' mean and covariance."""
        codes = in_ball(self.rate * self.table.detach())
        centre = codes.mean(0)
        spread = codes - centre
        covariance = spread.mT @ spread / max(1, len(codes) - 1)
        least = _JITTER * covariance.diagonal().mean() + torch.finfo(codes.dtype).tiny
        factor, _ = torch.linalg.cholesky_ex(covariance + least.expand_as(centre).diag())
        return MultivariateNormal(centre, scale_tril=factor, validate_args=False)


def in_ball(z: Tensor) -> Tensor:
    """Return codes (*batch, latent), those outside of the unit ball moved to its surface."""
    return z / z.norm(dim=-1, keepdim=True).clamp(min=1)


def _whitened(x: Tensor, k: int) -> Tensor:
    """Return at most k principal components of rows (n, d), each of variance 1."""
    k = min(k, len(x) - 1, x.shape[1])
    if k < 1:
        return x[:, :0]
    left, scales, _ = torch.pca_lowrank(x, q=k)
    kept = scales > _JITTER * scales.max()
    return left[:, kept] * math.sqrt(len(x))


class _Projected(torch.autograd.Function):
    """The projection on the ball, with the gradient of projected descent: none leads out of it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return in_ball(z)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        length = z.norm(dim=-1, keepdim=True)
        radius = z / length.clamp(min=torch.finfo(z.dtype).tiny)
        outwards = (slope * radius).sum(-1, keepdim=True).clamp(max=0)
        return slope - torch.where(length >= 1, outwards, 0.0) * radius
