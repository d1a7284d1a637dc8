"""The Beta distribution, whose draws never reach the ends of the interval."""

import pyro.distributions as dist
import torch
from torch import Size, Tensor


class InnerBeta(dist.Beta):
    """The Beta distribution, its draws kept off 0 and 1, where densities may be infinite."""

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients, which torch finds implicitly."""
        draws: Tensor = super().rsample(sample_shape)
        info = torch.finfo(draws.dtype)
        return draws.clamp(info.tiny, 1 - info.eps)
