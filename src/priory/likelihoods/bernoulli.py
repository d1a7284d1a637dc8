"""Binary data."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods.base import Likelihood, extent
from priory.likelihoods.values import is_binary


class Bernoulli(Likelihood):
    """Independent binary pixels; one map of log-odds.

    Example:
        >>> head = Bernoulli()
        >>> head.build(torch.zeros(10, 4))
        >>> head(torch.zeros(5, 1, 4)).event_shape
        torch.Size([4])
    """

    name = "bernoulli"

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is 0 or 1."""
        if is_binary(x):
            return
        if x.min() >= 0 and x.max() <= 1:
            mend = "binarise the data, or use likelihood='continuous-bernoulli'"
        else:
            mend = (
                "scale the data to [0, 1] and binarise them, or use likelihood="
                "'continuous-bernoulli' once scaled, or likelihood='normal' as they are"
            )
        raise ValueError(
            f"the Bernoulli likelihood expected values 0 and 1, got values in {extent(x)}: {mend}"
        )

    def bias(self, x: Tensor) -> Tensor:
        """Return the log-odds of the training mean, kept in [0.001, 0.999]."""
        return torch.logit(x.mean(0).clamp(0.001, 0.999)).unsqueeze(0)

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (logits,)."""
        return IndependentBernoulli(maps[0], event_dim)
