"""Mixtures, whose likelihood and posterior are exact: of normals, and of independent bits."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import softplus

from priory.distributions.categorical import OneHot
from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Bernoulli
from priory.lookup import positive
from priory.models.linear_gaussian import column_variances
from priory.models.pair import Tractable
from priory.part import Shape

_NOBODY = 1e-6  # rows below which a component keeps its parameters


class Mixture(Tractable):
    """A component for each datum, as a one-hot code; the guide has the exact responsibilities.

    Args:
        components: K, their number.
        floor: What keeps a component from the data's edge.

    Raises:
        ValueError: The number isn't a positive integer, or the floor is out of range.
    """

    logits: Tensor

    def __init__(self, components: int, floor: float) -> None:
        super().__init__()
        if not 0 < floor < 0.5:
            raise ValueError(f"floor must be between 0 and 0.5, got {floor}")
        self.components, self.floor = positive("components", components), floor

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log p(x, c) of data (*batch, *shape) and each component, (*batch, K)."""
        return self.log_densities(self.flat(x)) + self.logits.log_softmax(-1)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log p(x), (*batch), of data (*batch, *shape)."""
        return self.log_joint(x).logsumexp(-1)

    @torch.no_grad()
    def maximise(self, x: Tensor) -> None:
        """Take one sweep of EM on data (n, *shape)."""
        shares = self.log_joint(x).double().softmax(-1)
        counts = shares.sum(0)
        self.logits.copy_((counts / len(x)).clamp(min=_NOBODY / len(x)).log())
        self.fit_components(self.flat(x).double(), shares, counts)

    @abstractmethod
    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | c) of vectors (*batch, d) and each component, (*batch, K)."""

    @abstractmethod
    def fit_components(self, x: Tensor, shares: Tensor, counts: Tensor) -> None:
        """Move the components to their optimum.

        Args:
            x: Vectors (n, d), in float64.
            shares: Responsibilities, (n, K).
            counts: Their sums, (K,).
        """

    @abstractmethod
    def component(self, c: Tensor) -> TorchDistribution:
        """Return p(x | c) of data, for one-hot codes (*batch, K)."""

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            c = pyro.sample("c", OneHot(logits=self.logits))
            pyro.sample("x", self.component(c), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("c", OneHot(logits=self.log_joint(x)))


class ChosenNormal(TorchDistribution):
    """The normal that a one-hot code chooses; the densities of all are computed once for a datum.

    Args:
        c: Codes, (*batch, K).
        mean: Of each normal, (K, d).
        factors: Cholesky factors of the covariances, (K, d, d).
        shape: The shape of a datum, of d numbers.
        validate_args: Whether to check values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        c: Tensor,
        mean: Tensor,
        factors: Tensor,
        shape: Shape,
        validate_args: bool | None = None,
    ) -> None:
        self.c, self.centres, self.factors = c, mean, factors
        super().__init__(c.shape[:-1], Size(shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return all real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> ChosenNormal:
        """Return the same distribution for a larger batch."""
        c = self.c.expand(*batch_shape, self.c.shape[-1])
        return ChosenNormal(c, self.centres, self.factors, self.event_shape)

    @property
    def mean(self) -> Tensor:
        """The chosen means, (*batch, *shape)."""
        return (self.c @ self.centres).reshape(self.batch_shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of data (*batch, *shape), in nats, (*batch)."""
        vectors = value.reshape(*value.shape[: value.dim() - len(self.event_shape)], -1)
        return (self.c * normal_densities(vectors, self.centres, self.factors)).sum(-1)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw data, (*sample_shape, *batch, *shape)."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(
            *shape[: len(shape) - len(self.event_shape)],
            self.centres.shape[-1],
            dtype=self.centres.dtype,
            device=self.centres.device,
        )
        each = [noise @ factor.mT * self.c[..., k, None] for k, factor in enumerate(self.factors)]
        return (torch.stack(each).sum(0) + self.c @ self.centres).reshape(shape)

    has_rsample = True


def normal_densities(x: Tensor, mean: Tensor, factors: Tensor) -> Tensor:
    """Return the log densities of vectors (*batch, d) under K normals, (*batch, K)."""
    pairs = zip(mean, factors, strict=True)
    return torch.stack([MultivariateNormal(m, scale_tril=f).log_prob(x) for m, f in pairs], -1)


def diagonal_densities(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log densities of vectors (*batch, d) under K diagonal normals, (*batch, K)."""
    pairs = zip(mean, log_scale, strict=True)
    return torch.stack([IndependentNormal(m, s, 1).log_prob(x) for m, s in pairs], -1)


def bit_densities(x: Tensor, log_odds: Tensor) -> Tensor:
    """Return log p of bits (*batch, d) under each of K rows of log-odds (K, d), (*batch, K)."""
    return x @ log_odds.mT - softplus(log_odds).sum(-1)


class GMM(Mixture):
    r"""A mixture of normals, with full covariances or diagonal ones; trained by EM.

    .. math:: c \sim \mathrm{Cat}(\pi), \quad x \sim N(m_c, S_c); \qquad
        c \sim p(c \mid x) \propto \pi_c N(x; m_c, S_c)

    Dempster, Laird and Rubin, 1977, Maximum likelihood from incomplete data via the EM algorithm.
    The likelihood has no bound where a component sits on one datum, so that variances have a floor:
    in units of the columns' standard deviations, no eigenvalue of a covariance is below. The means
    start at rows that lie apart (Arthur and Vassilvitskii, 2007, k-means++).

    Args:
        components: K, the number of components.
        covariance: "full" or "diagonal".
        floor: Smallest variance, as a share of the columns' variances in training.

    Raises:
        ValueError: A number is out of range, or there is no such covariance.

    Example:
        >>> pair = GMM(components=3)
        >>> x = torch.randn(100, 2)
        >>> pair.build(x)
        >>> pair.maximise(x)  # one sweep
        >>> pair.log_joint(x).shape
        torch.Size([100, 3])
    """

    name = "gaussian-mixture"
    unit: Tensor

    def __init__(self, components: int = 10, covariance: str = "full", floor: float = 1e-6) -> None:
        super().__init__(components, floor)
        if covariance not in ("full", "diagonal"):
            raise ValueError(f"covariance must be full or diagonal, got {covariance!r}")
        self.covariance = covariance

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make equal weights, means at rows that lie apart, and the columns' variances."""
        x = x.reshape(len(x), -1).double()
        self.register_buffer("unit", column_variances(x).sqrt())
        self.logits = nn.Parameter(torch.zeros(self.components))
        self.mean = nn.Parameter(_apart(x / self.unit, self.components) * self.unit)
        self.log_scale = nn.Parameter(self.unit.log().repeat(self.components, 1))
        if self.covariance == "full":  # S = D L L' D, of scales D and L with the diagonal 1
            size = self.components, x.shape[1], x.shape[1]
            self.below = nn.Parameter(torch.zeros(size))

    def factors(self) -> Tensor:
        """Return the Cholesky factors of full covariances, (K, d, d)."""
        eye = torch.eye(self.mean.shape[1], dtype=self.mean.dtype, device=self.mean.device)
        return self.log_scale.exp()[..., None] * (self.below.tril(-1) + eye)

    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | c) of vectors (*batch, d) and each component, (*batch, K)."""
        if self.covariance == "full":
            return normal_densities(x, self.mean, self.factors())
        return diagonal_densities(x, self.mean, self.log_scale)

    def fit_components(self, x: Tensor, shares: Tensor, counts: Tensor) -> None:
        """Set means and covariances to the moments of the rows, weighted by their shares."""
        for k in range(self.components):
            if counts[k] < _NOBODY:
                continue
            weight = shares[:, k] / counts[k]
            mean = weight @ x
            apart = (x - mean) / self.unit
            self.mean[k] = mean
            if self.covariance == "diagonal":
                variance = (weight @ apart.square()).clamp(min=self.floor)
                self.log_scale[k] = variance.log() / 2 + self.unit.log()
                continue
            values, vectors = torch.linalg.eigh((apart * weight[:, None]).mT @ apart)
            values = values.clamp(min=self.floor)
            factor = torch.linalg.cholesky((vectors * values) @ vectors.mT) * self.unit[:, None]
            scale = factor.diagonal()
            self.log_scale[k] = scale.log()
            self.below[k] = (factor / scale[:, None]).tril(-1)

    def component(self, c: Tensor) -> TorchDistribution:
        """Return p(x | c) of data, for one-hot codes (*batch, K)."""
        event = len(self.shape or ())
        if self.covariance == "diagonal":
            mean, log_scale = self.shaped(c @ self.mean), self.shaped(c @ self.log_scale)
            return IndependentNormal(mean, log_scale, event)
        return ChosenNormal(c, self.mean, self.factors(), self.shape or ())


class BernoulliMixture(Mixture):
    r"""A mixture of independent bits; trained by EM.

    .. math:: c \sim \mathrm{Cat}(\pi), \quad x_i \sim \mathrm{Bernoulli}(p_{ci}); \qquad
        c \sim p(c \mid x) \propto \pi_c \prod_i p_{ci}^{x_i} (1 - p_{ci})^{1 - x_i}

    Bishop, 2006, Pattern recognition and machine learning, section 9.3.3. The probabilities start
    half way between a row and the mean, and are kept off 0 and 1, where unseen data have no
    likelihood.

    Args:
        components: K, the number of components.
        floor: Least probability of a zero and of a one.

    Raises:
        ValueError: A number is out of range; when it is built, if the data are not zeros and ones.

    Example:
        >>> pair = BernoulliMixture(components=3)
        >>> x = (torch.rand(100, 1, 8, 8) < 0.3).float()
        >>> pair.build(x)
        >>> pair.maximise(x)  # one sweep
        >>> pair.log_odds.shape
        torch.Size([3, 64])
    """

    name = "bernoulli-mixture"

    def __init__(self, components: int = 20, floor: float = 1e-3) -> None:
        super().__init__(components, floor)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make equal weights, and probabilities half way between rows and their mean."""
        Bernoulli().check(x)
        x = x.reshape(len(x), -1).double()
        rows = torch.randperm(len(x))[torch.arange(self.components) % len(x)].to(x.device)
        self.logits = nn.Parameter(torch.zeros(self.components))
        self.log_odds = nn.Parameter(self._odds((x[rows] + x.mean(0)) / 2))

    def _odds(self, probs: Tensor) -> Tensor:
        return probs.clamp(self.floor, 1 - self.floor).logit()

    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | c) of vectors (*batch, d) and each component, (*batch, K)."""
        return bit_densities(x, self.log_odds)

    def fit_components(self, x: Tensor, shares: Tensor, counts: Tensor) -> None:
        """Set the probabilities to the rows' means, weighted by their shares."""
        odds = self._odds(shares.mT @ x / counts.clamp(min=_NOBODY)[:, None])
        self.log_odds.copy_(torch.where(counts[:, None] < _NOBODY, self.log_odds, odds))

    def component(self, c: Tensor) -> TorchDistribution:
        """Return p(x | c) of data, for one-hot codes (*batch, K)."""
        return IndependentBernoulli(self.shaped(c @ self.log_odds), len(self.shape or ()))


def _apart(x: Tensor, count: int) -> Tensor:
    """Return rows of data (n, d), drawn in proportion to the squared distance to former ones."""
    found = [x[torch.randint(len(x), ())]]
    distance = (x - found[0]).square().sum(-1)
    for _ in range(count - 1):
        weight = distance if distance.sum() > 0 else torch.ones_like(distance)
        below = weight.cumsum(0) < weight.sum() * torch.rand(()).to(x)
        found.append(x[below.sum().clamp(max=len(x) - 1)])
        distance = torch.minimum(distance, (x - found[-1]).square().sum(-1))
    return torch.stack(found)
