"""Distributions over the pixels of an image or the cells of a table, each coordinate its own."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl
from torch.nn.functional import logsigmoid, softplus
from torch.special import erfc, erfcx, ndtr

from priory.distributions.independent import Factorised

_LEAST_LOG_SCALE, _MOST_LOG_SCALE = -30.0, 80.0  # of a logistic density over levels of [0, 1]
_LEAST_NORMAL = -25.0  # of a normal density over levels of [0, 1]
_FARTHEST = 1e6  # a centre, where all mass is at one end


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


class BitPairs(Factorised):
    r"""Independent counts of ones among two bits of the same log-odds.

    .. math:: \log p(n) = \sum_i \log \binom{2}{n_i} + n_i l_i - 2 \log(1 + e^{l_i})

    Args:
        logits: Log-odds l of each bit, (*batch, *event).
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> BitPairs(torch.zeros(1), 1).log_prob(torch.tensor([[0.0], [1.0], [2.0]])).exp()
        tensor([0.2500, 0.5000, 0.2500])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}

    def __init__(self, logits: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, event_dim, validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return 0, 1 and 2."""
        return constraints.independent(constraints.integer_interval(0, 2), len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """The expected number, (*batch, *event)."""
        return 2 * self.full(torch.sigmoid(self.logits))

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event)."""
        ways = math.log(2) * value * (2 - value)
        return (ways + value * self.logits).sum(self.dims) - 2 * softplus(self.logits).sum(
            self.dims
        )

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw 0, 1 or 2."""
        with torch.no_grad():
            probs = torch.sigmoid(self.logits).expand(self._extended_shape(sample_shape))
            return torch.bernoulli(probs) + torch.bernoulli(probs)


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


class Gathered(Factorised):
    """Independent levels k / (levels - 1), by a density gathered over each level's bin.

    The lowest bin reaches to minus infinity and the highest to infinity, so the levels' masses sum
    to one.

    Args:
        loc: Centres of the density, (*batch, *event).
        log_scale: Logarithms of its scales, (*batch, *event).
        levels: How many levels there are between 0 and 1, both included.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.
    """

    least: ClassVar[float]  # log scale, below which all mass is at one level or at two
    cdf: ClassVar[staticmethod[[Tensor], Tensor]]  # of the standard density, which is symmetric
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
        rate = torch.exp(-self.log_scale.clamp(min=self.least))
        total = torch.zeros_like(self.loc)
        for k in range(1, self.levels):
            total = total + self.cdf((self.loc - (k - 0.5) / (self.levels - 1)) * rate)
        return self.full(total / (self.levels - 1))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw levels: a draw of the density, rounded and kept in [0, 1]."""
        with torch.no_grad():
            noise = self.noise(self._extended_shape(sample_shape))
            x = self.loc + self.log_scale.clamp(self.least, _MOST_LOG_SCALE).exp() * noise
            top = self.levels - 1
            return (x.clamp(-1, 2) * top).round().clamp(0, top) / top

    def noise(self, shape: Size) -> Tensor:
        """Draw the standard density."""
        raise NotImplementedError


class IndependentLogistic(Gathered):
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

    least = _LEAST_LOG_SCALE
    cdf = staticmethod(torch.special.expit)

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

    def noise(self, shape: Size) -> Tensor:
        """Draw standard logistic noise."""
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.logit(u, eps=torch.finfo(u.dtype).eps)


def _log_width(u: Tensor, log_inverse: Tensor) -> Tensor:
    """Return log(1 - e^-u), for u = e^-v given with v, to full precision at both ends."""
    large = torch.log(-torch.expm1(-u.clamp(min=1e-3)))
    small = u.clamp(max=1e-3)
    return torch.where(u > 1e-3, large, -log_inverse - small * (0.5 - small / 24))


class IndependentDiscretizedNormal(Gathered):
    r"""Independent levels k / (levels - 1), by a normal density gathered over each level's bin.

    .. math:: p(x) = \Phi((x + w/2 - m) / s) - \Phi((x - w/2 - m) / s), \quad w = 1/(levels - 1)

    The lowest bin reaches to minus infinity and the highest to infinity, so the levels' masses sum
    to one. Ho, Jain and Abbeel, 2020, Denoising diffusion probabilistic models. The difference is
    that of two tails on the side on which both are small, in logarithms, and of a narrow bin the
    density at its middle with its change to second order: neither loses precision. Centres are kept
    in [-10^6, 10^6] and log scales above -25; beyond, the gradient is 0.

    Args:
        loc: Centres m, (*batch, *event).
        log_scale: Logarithms of the scales s, (*batch, *event).
        levels: How many levels there are between 0 and 1, both included.
        event_dim: How many of the last dims are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> pixel = IndependentDiscretizedNormal(torch.full((1,), 0.5), torch.zeros(1), 2, 1)
        >>> pixel.log_prob(torch.ones(1)).exp()
        tensor(0.5000)
    """

    least = _LEAST_NORMAL
    cdf = staticmethod(ndtr)

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event)."""
        top = self.levels - 1
        log_scale = self.log_scale.clamp(min=_LEAST_NORMAL)
        rate, loc = torch.exp(-log_scale), self.loc.clamp(-_FARTHEST, _FARTHEST)
        level = (value * top).round()
        # Neighbours share the very same edge, so that their masses add without a gap.
        above, below = (((2 * level + side) / (2 * top) - loc) * rate for side in (1, -1))
        right = below > 0  # of the centre: by symmetry the tails beyond are taken
        near, far = torch.where(right, -below, above), torch.where(right, -above, below)
        log_near = _log_cdf(near)
        inner = log_near + _log_share(_log_cdf(far) - log_near)
        middle, width = (level / top - loc) * rate, rate / top
        narrow = _log_narrow(middle, width, -log_scale - math.log(top))
        inner = torch.where(width < torch.finfo(width.dtype).eps ** 0.25, narrow, inner)
        low, high = _log_cdf(above), _log_cdf(-below)
        return torch.where(level <= 0, low, torch.where(level >= top, high, inner)).sum(self.dims)

    def noise(self, shape: Size) -> Tensor:
        """Draw standard normal noise."""
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


def _log_cdf(z: Tensor) -> Tensor:
    """Return the standard normal's log distribution function; its gradient is exact in the tail."""
    below, above = -z.clamp(max=0.0) * 2**-0.5, z.clamp(min=0.0) * 2**-0.5
    left = erfcx(below).log() - below.square() - math.log(2)
    return torch.where(z < 0, left, torch.log1p(-0.5 * erfc(above)))


def _log_narrow(middle: Tensor, width: Tensor, log_width: Tensor) -> Tensor:
    r"""Return the log mass of a narrow bin of the standard normal.

    .. math:: \log \varphi(m) + \log w + \log \frac{\sinh(m w / 2)}{m w / 2} - \frac{w^2}{24}
    """
    size = (0.5 * middle * width).abs()
    large, square = size.clamp(min=0.25), size.clamp(max=0.25).square()
    far = large + torch.log(-torch.expm1(-2 * large) / (2 * large))
    near = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    change = torch.where(size > 0.25, far, near) - width.square() / 24
    return log_width - 0.5 * (middle.square() + math.log(2 * math.pi)) + change


def _log_share(gap: Tensor) -> Tensor:
    """Return log(1 - e^gap) of negative gaps, to full precision near 0."""
    gap = gap.clamp(max=-torch.finfo(gap.dtype).tiny)
    near = gap > -math.log(2)
    close = torch.log(-torch.expm1(torch.where(near, gap, -1.0)))
    return torch.where(near, close, torch.log1p(-torch.exp(torch.where(near, -1.0, gap))))


@register_kl(IndependentBernoulli, IndependentBernoulli)  # type: ignore[untyped-decorator]
def _kl_bernoullis(p: IndependentBernoulli, q: IndependentBernoulli) -> Tensor:
    one, zero = torch.sigmoid(p.logits), torch.sigmoid(-p.logits)
    ones = one * (logsigmoid(p.logits) - logsigmoid(q.logits))
    zeros = zero * (logsigmoid(-p.logits) - logsigmoid(-q.logits))
    divergence = (ones + zeros).sum(p.dims)
    return divergence.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
