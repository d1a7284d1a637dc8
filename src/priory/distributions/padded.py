"""Sequences of independent entries that are padded behind their ends: the padding never counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.independent import of_one_number
from priory.distributions.seen import Seen

_FILL = 0.5  # at which any distribution of one real number, however bounded, has a finite density


def counting(length: Tensor, steps: int) -> Tensor:
    """Return which steps count, (*batch, steps), of sequences of some lengths (*batch)."""
    return torch.arange(steps, device=length.device) < length[..., None]


def blanked(x: Tensor, length: Tensor, dims: int, value: float = 0.0) -> Tensor:
    """Return sequences with one value behind their ends, whatever stands there.

    Args:
        x: Sequences, (*batch, steps, ...).
        length: Their steps, (*batch).
        dims: Dims of one sequence.
        value: What stands behind the ends.
    """
    counted = counting(length, x.shape[-dims])
    return torch.where(counted.reshape(*counted.shape, *[1] * (dims - 1)), x, value)


def carried(x: Tensor, length: Tensor) -> Tensor:
    """Return sequences with steps of others behind their ends.

    Any statistic of a step is then that of the rows in which it counts.

    Args:
        x: Sequences, (n, steps, ...).
        length: Their steps, (n,).
    """
    counted = counting(length, x.shape[1])
    order = counted.to(torch.uint8).argsort(dim=0, descending=True, stable=True)
    reach = torch.arange(x.shape[1], device=x.device).clamp(max=int(length.max()) - 1)
    among = torch.arange(len(x), device=x.device)[:, None] % counted.sum(0)[reach]
    other = x[order[among, reach], reach]
    return torch.where(counted.reshape(*counted.shape, *[1] * (x.dim() - 2)), x, other)


def check_lengths(length: Tensor, steps: int) -> None:
    """Raise a ValueError unless lengths count steps of sequences padded to so many."""
    if length.is_floating_point() or bool(((length < 1) | (length > steps)).any()):
        raise ValueError(
            f"a sequence's length counts its steps, from 1 to {steps}, got {length.min():g} to "
            f"{length.max():g}: mend the column 'length', or pad the sequences further; if it is "
            "no number of steps, call it by another name"
        )


class Padded(Seen):
    r"""Sequences of independent entries, each of a length of its own.

    .. math:: \log p(x_{1:l}) = \sum_{t \le l} \sum_i \log p(x_{ti})

    What stands behind an end has no effect on a density or its gradient, not even NaN; what is
    drawn is 0 there, and so is the mean.

    Args:
        whole: The distribution of all entries; the event's first dim is time.
        length: Steps of each sequence, (*batch).

    Raises:
        ValueError: The entries aren't known to be independent; when a support is checked, a length
            counts no steps.

    Example:
        >>> from priory.distributions.independent import IndependentNormal
        >>> whole = IndependentNormal(torch.zeros(1, 3), torch.zeros(()), 1)
        >>> Padded(whole, torch.tensor([2])).log_prob(torch.tensor([[0.0, 0.0, torch.nan]]))
        tensor([-1.8379])
    """

    def __init__(self, whole: Any, length: Tensor) -> None:
        self.length = length
        steps, *rest = whole.event_shape
        counted = counting(length, steps)
        super().__init__(whole, counted.reshape(*counted.shape, *[1] * len(rest)))

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return where each entry that counts may lie."""
        return _Counted(self)

    @property
    def mean(self) -> Tensor:
        """The mean of each entry, (*batch, *event); 0 behind the ends."""
        return self._blank(self.whole.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each entry, likewise."""
        return self._blank(self.whole.variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of the steps that count, in nats, (*batch)."""
        discrete = bool(of_one_number(self.whole.support).is_discrete)
        return super().log_prob(self._blank(value, 0.0 if discrete else _FILL))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw sequences, (*sample_shape, *batch, *event)."""
        return self._blank(self.whole.sample(sample_shape))

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw sequences with gradients, (*sample_shape, *batch, *event)."""
        return self._blank(self.whole.rsample(sample_shape))

    def _blank(self, value: Tensor, fill: float = 0.0) -> Tensor:
        return blanked(value, self.length, len(self.event_shape), fill)


class _Counted(constraints.Constraint):
    """Sequences of which every entry that counts lies in the support."""

    def __init__(self, padded: Padded) -> None:
        self.length, self.counted, self.dims = padded.length, padded.seen, padded.whole.dims
        self.one = of_one_number(padded.whole.support)
        self.event_dim, self.is_discrete = len(self.dims), bool(self.one.is_discrete)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        check_lengths(self.length, value.shape[self.dims[0]])
        inside: Tensor = self.one.check(value) | ~self.counted
        return inside.flatten(-self.event_dim).all(-1)
