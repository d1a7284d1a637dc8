"""A normal variable on the scale of log-odds, in the unit interval."""

import copy
import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints


class LogitNormal(TorchDistribution):
    r"""A distribution on the unit interval whose log-odds are normal.

    .. math:: \log p(v) = -\tfrac12 \Bigl(\frac{u - m}{s}\Bigr)^2 - \log s
        - \tfrac12 \log 2 \pi - \log v(1 - v), \qquad u = \log \frac{v}{1 - v}

    Aitchison and Shen, 1980, Logistic-normal distributions: some properties and uses.

    Args:
        loc: Means m of the log-odds, (*batch).
        log_scale: Logarithms of their standard deviations s, (*batch).
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> LogitNormal(torch.tensor(0.0), torch.tensor(0.0)).log_prob(torch.tensor(0.5)).exp()
        tensor(1.5958)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "log_scale": constraints.real,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.log_scale = torch.broadcast_tensors(loc, log_scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "LogitNormal":
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        new.loc, new.log_scale = self.loc.expand(batch_shape), self.log_scale.expand(batch_shape)
        return new

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients: the logistic function of m + s e, kept off 0 and 1."""
        shape = self._extended_shape(sample_shape)
        info = torch.finfo(self.loc.dtype)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.sigmoid(self.loc + self.log_scale.exp() * noise).clamp(info.tiny, 1 - info.eps)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each coordinate, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        one, other = value.log(), torch.log1p(-value)
        noise = (one - other - self.loc) * torch.exp(-self.log_scale)
        return -0.5 * noise.square() - self.log_scale - 0.5 * math.log(2 * math.pi) - one - other
