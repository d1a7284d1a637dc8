"""Real data."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.likelihoods.base import Real
from priory.likelihoods.values import is_table, units

_LOG_SCALES = (-25.0, 40.0)


class Normal(Real):
    r"""Independent normal pixels; a map of means and, with scale "pixel", one of log scales.

    .. math:: x_i \sim N(a_i + b_i m_i, (b_i s_i)^2)

    A table's a_i and b_i are those of its columns; an image has one a and b, which are 0 and 1
    where its mean and standard deviation are within [-1, 1]. Densities are in the data's units.
    log s_i is kept in [-25, 40], beyond which single precision has no use for it.

    Args:
        scale: "learned" for one scalar s learned with the decoder, "pixel" for one from the decoder
            at every pixel, or a fixed standard deviation in the data's units.

    Raises:
        ValueError: The scale is neither of the words nor a positive number.
    """

    name = "normal"

    def __init__(self, scale: str | float = "learned") -> None:
        super().__init__()
        fixed = isinstance(scale, (int, float)) and 0 < scale < math.inf
        if scale not in ("learned", "pixel") and not fixed:
            raise ValueError(f"scale must be 'learned', 'pixel' or a positive number, got {scale}")
        self.scale = scale
        self.params = 2 if scale == "pixel" else 1

    def make(self, x: Tensor) -> None:
        """Take the data's units, and make the log scale: learned from their spread, or fixed."""
        super().make(x)
        if not is_table(x):
            self.take(*units(x))
        if self.scale == "learned":
            self.log_scale = nn.Parameter(self._spread(x))
        elif self.scale != "pixel":
            fixed = torch.tensor(math.log(float(self.scale)), dtype=x.dtype, device=x.device)
            self.register_buffer("log_scale", fixed, persistent=False)

    def span(self, x: Tensor, output: str) -> None:
        """Take the units of a net's range, and the scale's start in them."""
        super().span(x, output)
        if self.scale == "learned":
            with torch.no_grad():
                self.log_scale.copy_(self._spread(x))

    def _spread(self, x: Tensor) -> Tensor:
        """Return the log standard deviation of data in their units."""
        return self.scaled(x).std(correction=0).clamp(min=1e-2).log().detach().clone()

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is finite."""
        if not torch.isfinite(x).all():
            raise ValueError("the normal likelihood expected finite values, got nan or infinity")

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean and, for the scale's map, the log standard deviation."""
        x = self.scaled(x)
        mean = x.mean(0)
        if self.scale != "pixel":
            return mean.unsqueeze(0)
        spread = x.std(0, correction=0).clamp(min=1e-2)
        return torch.stack([mean, spread.log()])

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (means,) or (means, log scales)."""
        log_scale = maps[1] if self.scale == "pixel" else self.log_scale
        if isinstance(self.scale, str):
            log_scale = log_scale.clamp(*_LOG_SCALES) + self.unit.log()
        return IndependentNormal(self.centre + self.unit * maps[0], log_scale, event_dim)
