"""Linear-Gaussian models, whose likelihood and posterior are exact: pPCA and factor analysis."""

from __future__ import annotations

from typing import ClassVar

import pyro
import torch
from pyro.distributions import LowRankMultivariateNormal, MultivariateNormal
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.models.pair import Tractable
from priory.priors import Normal

_START = 0.1  # of a column's standard deviation, the weights that EM and SVI start from


def column_variances(x: Tensor) -> Tensor:
    """Return the variance of each column of data (n, d), 1 of constant ones, (d,), in float64."""
    variance = x.double().var(0, correction=0)
    return torch.where(variance > 0, variance, 1.0)


class LinearGaussian(Tractable):
    """A normal latent, mapped linearly, with independent normal noise; the guide is exact.

    Args:
        latent: q, the number of latent coordinates.
        floor: Smallest variance of the noise, as a share of the columns' variances in training.

    Raises:
        ValueError: The latent isn't a positive integer, or the floor isn't positive.
    """

    isotropic: ClassVar[bool]
    lowest: Tensor

    def __init__(self, latent: int = 2, floor: float = 1e-6) -> None:
        super().__init__(latent)
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        self.floor = floor
        self.prior = Normal()

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make b, the columns' means; W, small and random; and the noise, all of the variance."""
        x = x.reshape(len(x), -1)
        variance = column_variances(x)
        if self.isotropic:
            variance = variance.mean(0, keepdim=True)
        size = variance.sqrt() * _START / self.latent**0.5
        self.prior.build(self.latent, x)
        self.mean = nn.Parameter(x.double().mean(0))
        self.weight = nn.Parameter(size[:, None] * torch.randn(x.shape[1], self.latent).double())
        self.log_scale = nn.Parameter(variance.log() / 2)
        self.register_buffer("lowest", variance * self.floor)

    def marginal(self) -> LowRankMultivariateNormal:
        r"""Return :math:`p(x) = N(b, W W^T + \Psi)`, of vectors (d,)."""
        noise = (2 * self.log_scale).exp().expand(len(self.mean))
        return LowRankMultivariateNormal(self.mean, self.weight, noise)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        r"""Return the exact posterior of data (*batch, *shape).

        .. math:: p(z \mid x) = N(M^{-1} W^T \Psi^{-1} (x - b), M^{-1}), \quad
            M = I + W^T \Psi^{-1} W
        """
        x = self.flat(x)
        scaled = self.weight * (-2 * self.log_scale).exp()[:, None]
        precision = self.weight.mT @ scaled
        precision = precision + torch.eye(self.latent, dtype=x.dtype, device=x.device)
        mean = torch.linalg.solve(precision, ((x - self.mean) @ scaled).mT).mT
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        return MultivariateNormal(mean, scale_tril=factor)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log p(x), (*batch), of data (*batch, *shape)."""
        x = self.flat(x)
        found: Tensor = self.marginal().log_prob(x)
        return found

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.prior())
            mean = self.shaped(z @ self.weight.mT + self.mean)
            log_scale = self.shaped(self.log_scale.expand(len(self.mean)))
            pyro.sample("x", IndependentNormal(mean, log_scale, len(self.shape or ())), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.posterior(x))


class ProbabilisticPCA(LinearGaussian):
    r"""Probabilistic principal component analysis; its maximum likelihood has a closed form.

    .. math:: z \sim N(0, I), \quad x \sim N(W z + b, s^2 I); \qquad
        z \sim N(M^{-1} W^T (x - b), s^2 M^{-1}), \quad M = W^T W + s^2 I

    Tipping and Bishop, 1999, Probabilistic principal component analysis. With the eigenvalues
    :math:`l_1 \ge l_2 \ge \dots` of the sample covariance and its eigenvectors U,
    :math:`s^2 = \frac{1}{d - q} \sum_{i > q} l_i` and :math:`W = U_q (L_q - s^2 I)^{1/2}`. Latents
    beyond d - 1 are not needed, and get the weight 0.

    Args:
        latent: q, the number of latent coordinates.
        floor: Smallest variance of the noise, as a share of the columns' mean variance.

    Raises:
        ValueError: The latent isn't a positive integer, or the floor isn't positive.

    Example:
        >>> pair = ProbabilisticPCA(latent=2)
        >>> x = torch.randn(100, 5)
        >>> pair.build(x)
        >>> pair.maximise(x)
        >>> pair.log_likelihood(x).shape, pair.posterior(x).mean.shape
        (torch.Size([100]), torch.Size([100, 2]))
    """

    name = "ppca"
    isotropic = True

    @torch.no_grad()
    def maximise(self, x: Tensor) -> None:
        """Set the parameters to their maximum-likelihood values on data (n, *shape)."""
        x = self.flat(x).double()
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
        values, vectors = values.flip(-1), vectors.flip(-1)
        used = min(self.latent, len(values) - 1)
        noise = values[used:].mean().clamp(min=self.lowest.double()[0])
        weight = vectors[:, :used] * (values[:used] - noise).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.weight.zero_()[:, :used].copy_(weight)
        self.log_scale.fill_(noise.log() / 2)


class FactorAnalysis(LinearGaussian):
    r"""Factor analysis: each coordinate of a datum has noise of its own; trained by EM.

    .. math:: z \sim N(0, I), \quad x \sim N(W z + b, \Psi), \quad \Psi \text{ diagonal}; \qquad
        z \sim N(M^{-1} W^T \Psi^{-1} (x - b), M^{-1}), \quad M = I + W^T \Psi^{-1} W

    Rubin and Thayer, 1982, EM algorithms for ML factor analysis. The likelihood has no bound where
    a coordinate's noise goes to zero, as that of a constant pixel does, so that the noise has a
    floor.

    Args:
        latent: Number of latent coordinates.
        floor: Smallest variance of a coordinate's noise, as a share of its variance in training.

    Raises:
        ValueError: The latent isn't a positive integer, or the floor isn't positive.

    Example:
        >>> pair = FactorAnalysis(latent=2)
        >>> x = torch.randn(100, 5)
        >>> pair.build(x)
        >>> pair.maximise(x)  # one sweep
        >>> pair.log_scale.shape
        torch.Size([5])
    """

    name = "factor-analysis"
    isotropic = False

    @torch.no_grad()
    def maximise(self, x: Tensor) -> None:
        """Take one sweep of EM on data (n, *shape)."""
        posterior = self.posterior(x)
        x = self.flat(x).double()
        mean = x.mean(0)
        gain = torch.linalg.solve(  # E[z | x] = gain (x - b) at the sample mean b
            posterior.precision_matrix[0].double(),
            (self.weight * (-2 * self.log_scale).exp()[:, None]).mT.double(),
        )
        z = (x - mean) @ gain.mT
        cross = (x - mean).mT @ z / len(x)
        second = posterior.covariance_matrix[0].double() + z.mT @ z / len(x)
        weight = torch.linalg.solve(second, cross.mT).mT
        noise = (x - mean).square().mean(0) - (weight * cross).sum(1)
        self.mean.copy_(mean)
        self.weight.copy_(weight)
        self.log_scale.copy_(noise.clamp(min=self.lowest.double()).log() / 2)
