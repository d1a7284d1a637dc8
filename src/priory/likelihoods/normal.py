"""Real data."""

from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.independent import IndependentNormal
from priory.likelihoods.base import Scaled


class Normal(Scaled):
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

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (means,) or (means, log scales)."""
        return IndependentNormal(*self.located(maps), event_dim)
