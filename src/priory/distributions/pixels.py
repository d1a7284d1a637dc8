"""Distributions over the pixels of an image or the cells of a table, each coordinate its own."""

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, softplus

from priory.distributions.independent import Factorised

_LEAST_LOG_SCALE, _MOST_LOG_SCALE = -30.0, 80.0  # of a logistic density over levels of [0, 1]
_FARTHEST = 1e6  # a logistic centre, where all mass is at one end


class Levels(constraints.Constraint):
    """Evenly spaced levels of the unit interval; which they are, it does not look at."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        """Say which values are between 0 and 1."""
        return (value >= 0) & (value <= 1)


LEVELS = Levels()


class IndependentBernoulli(Factorised):
    r"""Independent binary coordinates.

    .. math:: \log p(x) = \sum_i x_i l_i - \log(1 + e^{l_i})

    Args:
        logits: Log-odds, (*batch, *event).
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentBernoulli(torch.zeros(2, 3), 1).log_prob(torch.ones(3)).exp()
        tensor([0.1250, 0.1250])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}

    def __init__(self, logits: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return zeros and ones."""
        return constraints.independent(constraints.boolean, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The probability of a one, (*batch, *event)."""
        return self.full(torch.sigmoid(self.logits))

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, (*batch, *event)."""
        return self.mean * (1 - self.mean)

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event)."""
        return (value * self.logits).sum(self.dims) - softplus(self.logits).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw zeros and ones."""
        with torch.no_grad():
            probs = torch.sigmoid(self.logits).expand(self._extended_shape(sample_shape))
            return torch.bernoulli(probs)


class IndependentContinuousBernoulli(Factorised):
    r"""Independent coordinates in [0, 1] with a density linear in the exponent.

    .. math:: \log p(x) = \sum_i x_i l_i - \log \frac{e^{l_i} - 1}{l_i}

    Loaiza-Ganem and Cunningham, 2019, The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders. The normaliser is written as l / 2 + log(sinh(l / 2) / (l / 2)), which
    keeps full precision through l = 0.

    Args:
        logits: Natural parameters l, (*batch, *event).
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentContinuousBernoulli(torch.zeros(3), 1).log_prob(torch.rand(3))
        tensor(0.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}
    has_rsample = True

    def __init__(self, logits: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return the unit interval."""
        return constraints.independent(constraints.unit_interval, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of each coordinate, (*batch, *event)."""
        return self.full(continuous_bernoulli_mean(self.logits))

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., *event)."""
        half = 0.5 * self.logits
        size = half.abs()
        large = size.clamp(min=0.25)
        far = large + torch.log(-torch.expm1(-2 * large) / (2 * large))
        square = size.clamp(max=0.25).square()
        near = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
        norm = half + torch.where(size > 0.25, far, near)
        return (value * self.logits).sum(self.dims) - norm.sum(self.dims)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients, by the inverse of the distribution function."""
        shape = self._extended_shape(sample_shape)
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        rate = self.logits.abs().clamp(min=1e-6)
        x = -torch.log1p(u * torch.expm1(-rate)) / rate
        return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """Return the mean of the continuous Bernoulli, 1/2 + (coth h - 1/h) / 2 at h = logits / 2."""
    half = 0.5 * logits
    large = torch.where(half.abs() > 0.25, half, 0.25)
    square = half.clamp(-0.25, 0.25).square()
    near = 1 / 3 - square * (1 / 45 - square * (2 / 945 - square * (1 / 4725 - square * 2 / 93555)))
    tail = torch.where(half.abs() > 0.25, 1 / torch.tanh(large) - 1 / large, half * near)
    return 0.5 + 0.5 * tail


class IndependentLogistic(Factorised):
    r"""Independent levels k / (levels - 1), by a logistic density gathered over each level's bin.

    .. math:: p(x) = \sigma((x + w/2 - m) / s) - \sigma((x - w/2 - m) / s), \quad w = 1/(levels - 1)

    The lowest bin reaches to minus infinity and the highest to infinity, so the levels' masses sum
    to one. Salimans, Karpathy, Chen and Kingma, 2017, PixelCNN++. The difference is written as
    s(a) s(-b) (1 - e^(b - a)), with s the sigmoid, which loses no precision in the tails. Centres
    are kept in [-10^6, 10^6] and log scales above -30, where all mass is at one level or at two:
    beyond, the gradient is 0.

    Args:
        loc: Centres m, (*batch, *event).
        log_scale: Logarithms of the scales s, (*batch, *event).
        levels: How many levels there are between 0 and 1, both included.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "log_scale": constraints.real,
    }

    def __init__(
        self,
        loc: Tensor,
        log_scale: Tensor,
        levels: int,
        event_dim: int,
        validate_args: bool | None = None,
    ) -> None:
        self.loc = loc
        self.log_scale = log_scale
        self.levels = levels
        super().__init__(loc.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return the levels, which are masses, between 0 and 1."""
        return constraints.independent(LEVELS, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of each coordinate, (*batch, *event): the sum over levels of P(x >= level)."""
        rate = torch.exp(-self.log_scale.clamp(min=_LEAST_LOG_SCALE))
        total = torch.zeros_like(self.loc)
        for k in range(1, self.levels):
            total = total + torch.sigmoid((self.loc - (k - 0.5) / (self.levels - 1)) * rate)
        return self.full(total / (self.levels - 1))

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event)."""
        top = self.levels - 1
        log_scale = self.log_scale.clamp(min=_LEAST_LOG_SCALE)
        rate, loc = torch.exp(-log_scale), self.loc.clamp(-_FARTHEST, _FARTHEST)
        level = (value * top).round()
        # Neighbours share the very same edge, so that their masses add without a gap.
        above, below = ((2 * level + side) / (2 * top) - loc for side in (1, -1))
        upper = torch.where(level >= top, 0.0, logsigmoid(above * rate))
        lower = torch.where(level <= 0, 0.0, logsigmoid(-below * rate))
        inner = (level > 0) & (level < top)
        width = torch.where(inner, _log_width(rate / top, log_scale + math.log(top)), 0.0)
        return (upper + lower + width).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw levels: a logistic draw, rounded and kept in [0, 1]."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            scale = self.log_scale.clamp(_LEAST_LOG_SCALE, _MOST_LOG_SCALE).exp()
            x = self.loc + scale * torch.logit(u, eps=torch.finfo(u.dtype).eps)
            top = self.levels - 1
            return (x.clamp(-1, 2) * top).round().clamp(0, top) / top


def _log_width(u: Tensor, log_inverse: Tensor) -> Tensor:
    """Return log(1 - e^-u), for u = e^-v given with v, to full precision at both ends."""
    large = torch.log(-torch.expm1(-u.clamp(min=1e-3)))
    small = u.clamp(max=1e-3)
    return torch.where(u > 1e-3, large, -log_inverse - small * (0.5 - small / 24))
