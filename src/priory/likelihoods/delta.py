"""An implicit model's data: the decoder's output itself."""

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.likelihoods.base import Real


class Delta(Real):
    r"""The decoder's output itself, in a table's units: an implicit model, without a density.

    .. math:: x_i = a_i + b_i m_i

    An image has a = 0 and b = 1.
    """

    name = "delta"

    def bias(self, x: Tensor) -> Tensor:
        """Return the training mean."""
        return self.scaled(x).mean(0).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the point mass at maps (values,)."""
        value = self.centre + self.unit * maps[0] if hasattr(self, "unit") else maps[0]
        return dist.Delta(value, event_dim=event_dim)
