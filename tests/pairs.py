"""Pairs with known answers, shared by the tests."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from priory.posteriors import (
    BernoulliPosterior,
    ConcretePosterior,
    CouplingPosterior,
    FullPosterior,
    GammaPosterior,
    IAFPosterior,
    KumaraswamyPosterior,
    LogitNormalPosterior,
    MixturePosterior,
    NormalPosterior,
)
from priory.priors import (
    Boltzmann,
    Concrete,
    ExemplarPrior,
    Flow,
    GaussianMixture,
    NestedCRP,
    Normal,
    StickBreaking,
    Uniform,
    VampPrior,
)

SMALL_PRIORS = {
    "boltzmann": lambda: Boltzmann(3),
    "concrete": Concrete,
    "exemplar": lambda: ExemplarPrior(3),
    "flow": lambda: Flow(2, (8,)),
    "mixture": lambda: GaussianMixture(3),
    "nested-crp": lambda: NestedCRP(2, 2),
    "normal": Normal,
    "stick-breaking": StickBreaking,
    "uniform": Uniform,
    "vamp": lambda: VampPrior(3),
}
SMALL_POSTERIORS = {  # with a prior that they fit, where one of ours does
    "bernoulli": (None, BernoulliPosterior),
    "concrete": ("concrete", ConcretePosterior),
    "coupling": ("normal", lambda: CouplingPosterior(3, (4,), 2)),
    "full": ("normal", FullPosterior),
    "gamma": ("stick-breaking", GammaPosterior),
    "iaf": ("normal", lambda: IAFPosterior(2, (4,), 2)),
    "kumaraswamy": ("stick-breaking", KumaraswamyPosterior),
    "logit-normal": ("stick-breaking", LogitNormalPosterior),
    "mixture": ("normal", lambda: MixturePosterior(2)),
    "normal": ("normal", NormalPosterior),
}


class LinearGaussian(nn.Module):
    """Probabilistic PCA with its exact posterior, or one that is widened or shifted.

    x = W z + b + s e; posterior N(M^-1 W'(x - b), s^2 M^-1), M = W'W + s^2 I. The guide's
    covariance is the exact one times `widen`, its mean moved by `shift`.
    """

    def __init__(
        self, latent: int = 2, observed: int = 5, *, widen: float = 1.0, shift: float = 0.0
    ) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        real = {"generator": draw, "dtype": torch.float64}
        self.w = nn.Parameter(torch.randn(observed, latent, **real))
        self.b = nn.Parameter(torch.randn(observed, **real))
        self.log_s = nn.Parameter(torch.tensor(math.log(0.7), dtype=torch.float64))
        self.widen, self.shift, self.latent, self.observed = widen, shift, latent, observed

    @property
    def marginal(self) -> dist.MultivariateNormal:
        """p(x)."""
        eye = torch.eye(len(self.b), dtype=self.b.dtype)
        return dist.MultivariateNormal(self.b, self.w @ self.w.T + (2 * self.log_s).exp() * eye)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """q(z given x)."""
        s2 = (2 * self.log_s).exp()
        m = self.w.T @ self.w + s2 * torch.eye(self.latent, dtype=self.w.dtype)
        mean = torch.linalg.solve(m, ((x - self.b) @ self.w).mT).mT + self.shift
        return dist.MultivariateNormal(mean, self.widen * s2 * torch.linalg.inv(m))

    def model(self, x: Tensor) -> None:
        """p(x, z)."""
        pyro.module("ppca", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(self.w[0]), 1.0).to_event(1))
            pyro.sample(
                "x", dist.Normal(z @ self.w.T + self.b, self.log_s.exp()).to_event(1), obs=x
            )

    def guide(self, x: Tensor) -> None:
        """q(z given x)."""
        pyro.module("ppca", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))
