"""Independent categories, each a number that names one of several levels."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.independent import Factorised


class IndependentCategorical(Factorised):
    r"""Independent categories 0, ..., K - 1.

    .. math:: \log p(x) = \sum_i l_{i, x_i} - \log \sum_k e^{l_{i, k}}

    They have no order, and so no mean.

    Args:
        logits: Logarithms of the probabilities up to a constant, (*batch, *event, K).
        event_dim: How many of the dims before the last are one event.
        validate_args: Whether to check parameters and values; the global default if None.

    Example:
        >>> IndependentCategorical(torch.zeros(3, 4), 1).log_prob(torch.zeros(3)).exp()
        tensor(0.0156)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, event_dim: int, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], event_dim, validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Return the numbers of the levels."""
        levels = constraints.integer_interval(0, self.logits.shape[-1] - 1)
        return constraints.independent(levels, len(self._event_shape))

    @property
    def mean(self) -> Tensor:
        """There is none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a category has no mean")

    @property
    def probs(self) -> Tensor:
        """The probability of each level, (*batch, *event, K)."""
        return self.logits.softmax(-1)

    def apart(self) -> IndependentCategorical:
        """Return each coordinate's distribution: batch shape (*batch, *event), event (1,)."""
        new = copy.copy(self)
        new.logits = self.logits.unsqueeze(-2)
        new._batch_shape = self._batch_shape + self._event_shape
        new._event_shape = Size((1,))
        return new

    def density(self, value: Tensor) -> Tensor:
        """Return the log mass of events of shape (..., *event); minus infinity beside the levels.

        A missing level is not looked for: the mass of any other number is 0.
        """
        levels = self.logits.shape[-1]
        lead = torch.broadcast_shapes(value.shape, self.logits.shape[:-1])
        log_probs = self.logits.log_softmax(-1).expand(*lead, levels)
        place = value.expand(lead).round().clamp(0, levels - 1)
        found = log_probs.gather(-1, place.long().unsqueeze(-1)).squeeze(-1)
        return torch.where(place == value, found, -torch.inf).sum(self.dims)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw levels by the Gumbel-max trick."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape) + self.logits.shape[-1:]
            u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            noise = -torch.log(-torch.log(u.clamp(min=torch.finfo(u.dtype).tiny)))
            return (self.logits + noise).argmax(-1).to(self.logits.dtype)
