"""A distribution of independent entries, of which some are missing: the others' density alone."""

from __future__ import annotations

import copy
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from priory.distributions.independent import Factorised


class Seen(TorchDistribution):
    r"""Independent entries, the missing ones integrated out of the density.

    .. math:: \log p(x_\text{seen}) = \sum_i s_i \log p(x_i)

    Its draws and its moments are those of all entries.

    Args:
        whole: The distribution of all entries.
        seen: Boolean, true where an entry is seen, (*batch, *event).

    Raises:
        ValueError: The entries aren't known to be independent.

    Example:
        >>> from priory.distributions.independent import IndependentNormal
        >>> whole = IndependentNormal(torch.zeros(3), torch.zeros(()), 1)
        >>> Seen(whole, torch.tensor([True, False, True])).log_prob(torch.zeros(3))
        tensor(-1.8379)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, whole: Any, seen: Tensor) -> None:
        if not isinstance(whole, Factorised):
            raise ValueError(
                f"missing entries are integrated out of independent ones, and p(x | z), a "
                f"{type(whole).__name__}, is not known to have such; take another likelihood, "
                "such as normal or bernoulli"
            )
        self.whole, self.seen = whole, seen
        self.has_rsample = whole.has_rsample
        super().__init__(whole.batch_shape, whole.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """Where all entries lie."""
        return self.whole.support

    @property
    def mean(self) -> Tensor:
        """The mean of all entries, (*batch, *event)."""
        return self.whole.mean

    @property
    def variance(self) -> Tensor:
        """The variance of all entries, (*batch, *event)."""
        return self.whole.variance

    def expand(self, batch_shape: Size, _instance: Any = None) -> Seen:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new.whole = self.whole.expand(batch_shape)
        new._batch_shape = Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of the entries that are seen, in nats, (*batch)."""
        entries = self.whole.apart().log_prob(value.unsqueeze(-1))
        density = torch.where(self.seen, entries, 0.0).sum(self.whole.dims)
        return density.expand(torch.broadcast_shapes(self.batch_shape, density.shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw all entries, (*sample_shape, *batch, *event)."""
        return self.whole.sample(sample_shape)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw all entries with gradients, (*sample_shape, *batch, *event)."""
        return self.whole.rsample(sample_shape)
