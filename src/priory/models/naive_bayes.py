"""Naive Bayes: a class, and coordinates that are independent given it; fitted in closed form."""

from __future__ import annotations

from abc import abstractmethod

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Bernoulli
from priory.models.class_prior import ClassPrior, Labels
from priory.models.linear_gaussian import column_variances
from priory.models.mixtures import bit_densities, diagonal_densities
from priory.models.pair import Labelled, Tractable
from priory.nets import one_hot


class ClassConditional(Labelled, Tractable):
    """A class for each datum, with frequencies from the training rows; p(y | x) is exact.

    The label is observed where the data have one, and the bounds are log p(x, y); without labels
    the guide draws it from p(y | x).

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
    """

    def __init__(self, classes: int | None) -> None:
        super().__init__()
        self.labels = ClassPrior(classes)

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log p(x, y) of data (*batch, *shape) and each label, (*batch, classes)."""
        return self.log_densities(self.flat(x)) + self.labels.log_frequencies

    def classify(self, x: Tensor) -> Labels:
        """Return p(y | x), batch shape (*batch), of data (*batch, *shape)."""
        return Labels(logits=self.log_joint(x))

    def log_likelihood(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x, y), or log p(x) without labels, (*batch), of data (*batch, *shape)."""
        every = self.log_joint(x)
        return every.logsumexp(-1) if y is None else (self.codes(y) * every).sum(-1)

    def codes(self, y: Tensor) -> Tensor:
        """Return labels (*batch) as indicators (*batch, classes); NaN where one is none of them."""
        return one_hot(y, self.labels.width, self.labels.log_frequencies)

    @abstractmethod
    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | y) of vectors (*batch, d) and each label, (*batch, classes)."""

    @abstractmethod
    def conditional(self, y: Tensor) -> TorchDistribution:
        """Return p(x | y) of data, for labels (*batch)."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.batch(x):
            y = pyro.sample("y", self.labels(), obs=y)
            pyro.sample("x", self.conditional(y), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.batch(x):
            if y is None:
                pyro.sample("y", self.classify(x))


class NaiveBayes(ClassConditional):
    r"""Naive Bayes of bits, fitted by counting.

    .. math:: y \sim p(y), \quad x_i \sim \mathrm{Bernoulli}(p_{yi}), \quad
        p_{yi} = \frac{n_{yi} + a}{n_y + 2a}; \qquad
        p(y \mid x) \propto p(y) \prod_i p_{yi}^{x_i} (1 - p_{yi})^{1 - x_i}

    with :math:`n_{yi}` ones among the :math:`n_y` training rows of a class. Maron, 1961, Automatic
    indexing: an experimental inquiry. It is the generative twin of logistic regression: Ng and
    Jordan, 2001, On discriminative vs. generative classifiers.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        smoothing: a, imagined rows of each value; 0 is maximum likelihood.

    Raises:
        ValueError: A number is out of range; when it is built, if the data are not zeros and ones.

    Example:
        >>> x, y = (torch.rand(100, 5) < 0.5).float(), torch.arange(100) % 3
        >>> pair = NaiveBayes()
        >>> pair.build(x, y)
        >>> pair.maximise(x, y)
        >>> pair.classify(x).probs.shape
        torch.Size([100, 3])
    """

    name = "naive-bayes"

    def __init__(self, classes: int | None = None, smoothing: float = 1.0) -> None:
        super().__init__(classes)
        if not smoothing >= 0:
            raise ValueError(f"smoothing must not be negative, got {smoothing}")
        self.smoothing = smoothing

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the classes' frequencies, and log-odds at those of all rows."""
        Bernoulli().check(x)
        self.labels.build(y)
        mean = x.double().mean(0).flatten().clamp(1e-3, 1 - 1e-3)
        self.log_odds = nn.Parameter(mean.logit().repeat(self.labels.width, 1))

    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | y) of vectors (*batch, d) and each label, (*batch, classes)."""
        return bit_densities(x, self.log_odds)

    @torch.no_grad()
    def maximise(self, x: Tensor, y: Tensor) -> None:
        """Count the ones of each class in data (n, *shape) with labels (n,)."""
        rows = self.codes(y).double()
        counts = rows.sum(0)[:, None]
        ones = rows.mT @ self.flat(x).double()
        tiny = torch.finfo(self.log_odds.dtype).eps  # a probability of 0 has infinite log-odds
        probs = (ones + self.smoothing) / (counts + 2 * self.smoothing)
        self.log_odds.copy_(probs.clamp(tiny, 1 - tiny).logit())

    def conditional(self, y: Tensor) -> TorchDistribution:
        """Return p(x | y) of data, for labels (*batch)."""
        return IndependentBernoulli(
            self.shaped(self.codes(y) @ self.log_odds), len(self.shape or ())
        )


class GaussianNaiveBayes(ClassConditional):
    r"""Naive Bayes of real numbers, fitted by the moments of each class.

    .. math:: y \sim p(y), \quad x_i \sim N(m_{yi}, s_{yi}^2); \qquad
        p(y \mid x) \propto p(y) \prod_i N(x_i; m_{yi}, s_{yi}^2)

    Duda and Hart, 1973, Pattern classification and scene analysis. With one variance for all
    classes it would be the family of logistic regression (Ng and Jordan, 2001).

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        floor: Smallest variance, as a share of the coordinate's variance over all training rows.
            Coordinates that vary in some classes alone, such as an image's border, need a large
            one: else what is constant in a class decides alone.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> x, y = torch.randn(100, 5), torch.arange(100) % 3
        >>> pair = GaussianNaiveBayes()
        >>> pair.build(x, y)
        >>> pair.maximise(x, y)
        >>> pair.classify(x).probs.shape
        torch.Size([100, 3])
    """

    name = "gaussian-naive-bayes"
    unit: Tensor

    def __init__(self, classes: int | None = None, floor: float = 1e-6) -> None:
        super().__init__(classes)
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        self.floor = floor

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the classes' frequencies, and means and scales of all rows."""
        self.labels.build(y)
        x = x.reshape(len(x), -1).double()
        self.register_buffer("unit", column_variances(x).sqrt())
        self.mean = nn.Parameter(x.mean(0).repeat(self.labels.width, 1))
        self.log_scale = nn.Parameter(self.unit.log().repeat(self.labels.width, 1))

    def log_densities(self, x: Tensor) -> Tensor:
        """Return log p(x | y) of vectors (*batch, d) and each label, (*batch, classes)."""
        return diagonal_densities(x, self.mean, self.log_scale)

    @torch.no_grad()
    def maximise(self, x: Tensor, y: Tensor) -> None:
        """Take the moments of each class in data (n, *shape) with labels (n,)."""
        x = self.flat(x).double()
        for label in range(self.labels.width):
            rows = x[y == label]
            if not len(rows):
                continue
            scaled = (rows - rows.mean(0)) / self.unit
            variance = scaled.square().mean(0).clamp(min=self.floor)
            self.mean[label] = rows.mean(0)
            self.log_scale[label] = variance.log() / 2 + self.unit.log()

    def conditional(self, y: Tensor) -> TorchDistribution:
        """Return p(x | y) of data, for labels (*batch)."""
        codes = self.codes(y)
        mean, log_scale = self.shaped(codes @ self.mean), self.shaped(codes @ self.log_scale)
        return IndependentNormal(mean, log_scale, len(self.shape or ()))
