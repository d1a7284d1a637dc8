"""Sequences of a hidden Markov model, with the states summed out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.categorical import perturbed
from priory.distributions.padded import check_lengths, counting


class Emission(ABC):
    """What a state shows at a step; `Symbols` and `Normals` are two.

    Attributes:
        support: A torch constraint of one number.
    """

    support: Any

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log densities of steps (..., d) in each state, (..., K)."""

    @abstractmethod
    def draw(self, states: Tensor) -> Tensor:
        """Return what each of some states (...) shows, (..., d)."""

    @property
    def mean(self) -> Tensor | None:
        """What each state shows in the mean, (K, d); None where that is no value."""
        return None


class Symbols(Emission):
    """Symbols 0, 1, ... for each of d coordinates, as real numbers.

    Args:
        logits: Log-probabilities up to a constant, (K, d, symbols).
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.log_softmax(-1)
        self.support = constraints.integer_interval(0, logits.shape[-1] - 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probabilities of steps (..., d) in each state, (..., K)."""
        numbers = torch.arange(self.logits.shape[-1], device=x.device)
        rows = (x.unsqueeze(-1) == numbers).to(x).flatten(-2)
        return rows @ self.logits.flatten(1).mT

    def draw(self, states: Tensor) -> Tensor:
        """Return what each of some states (...) shows, (..., d)."""
        logits = self.logits[states]
        return perturbed(logits, logits.shape).argmax(-1).to(logits)


class Normals(Emission):
    """Independent normal coordinates.

    Args:
        loc: Means, (K, d).
        log_scale: Logarithms of the standard deviations, (K, d).
    """

    support = constraints.real

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        self.loc, self.log_scale = loc, log_scale

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log densities of steps (..., d) in each state, (..., K)."""
        normal = torch.distributions.Normal(self.loc, self.log_scale.exp(), validate_args=False)
        return normal.log_prob(x.unsqueeze(-2)).sum(-1)

    def draw(self, states: Tensor) -> Tensor:
        """Return what each of some states (...) shows, (..., d)."""
        loc = self.loc[states]
        return loc + self.log_scale[states].exp() * torch.randn_like(loc)

    @property
    def mean(self) -> Tensor:
        """What each state shows in the mean, (K, d)."""
        return self.loc


class MarkovSequence(TorchDistribution):
    r"""A hidden Markov model's sequences, by the forward algorithm.

    .. math:: p(x_{1:T}) = \sum_{s_{1:T}} p(s_1) \prod_{t > 1} p(s_t \mid s_{t-1})
        \prod_t p(x_t \mid s_t)

    Rabiner, 1989, A tutorial on hidden Markov models and selected applications in speech
    recognition. What lies behind a sequence's length never counts; drawn, it is 0.

    Args:
        initial: Log-probabilities of the first state, (K,).
        transition: Log-probabilities of the next state, (K, K), rows of the former.
        emission: What a state shows.
        shape: The shape of a datum: its steps first.
        length: Steps of each sequence, (*batch); None where all are full.
        batch_shape: Of the sequences, if there is no length.
        validate_args: Whether to check values; the global default if None.

    Example:
        >>> even = torch.zeros(2).log_softmax(0)
        >>> coin = Symbols(torch.zeros(2, 1, 2))
        >>> MarkovSequence(even, even.expand(2, 2), coin, (3,)).log_prob(torch.ones(3)).exp()
        tensor(0.1250)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        emission: Emission,
        shape: tuple[int, ...],
        length: Tensor | None = None,
        batch_shape: Size = Size(),  # noqa: B008
        validate_args: bool | None = None,
    ) -> None:
        self.initial, self.transition, self.emission = initial, transition, emission
        self.length = length
        batch_shape = batch_shape if length is None else length.shape
        super().__init__(batch_shape, Size(shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return where each step that counts may lie."""
        return _Counted(self)

    def expand(self, batch_shape: Size, _instance: Any = None) -> MarkovSequence:
        """Return the same distribution for a larger batch."""
        length = None if self.length is None else self.length.expand(batch_shape)
        parts = self.initial, self.transition, self.emission, tuple(self.event_shape)
        return MarkovSequence(*parts, length, Size(batch_shape))

    def steps(self, value: Tensor) -> Tensor:
        """Return sequences (*batch, *shape) as vectors, (*batch, steps, d)."""
        lead = value.shape[: value.dim() - len(self.event_shape)]
        return value.reshape(*lead, self.event_shape[0], -1)

    def counted(self) -> Tensor | None:
        """Return which steps count, (*batch, steps); None where all do."""
        if self.length is None:
            return None
        return counting(self.length, self.event_shape[0])

    def log_emissions(self, value: Tensor) -> Tensor:
        """Return log p(x_t | s_t), (*batch, steps, K); 0 for steps that do not count."""
        steps, counted = self.steps(value), self.counted()
        if counted is None:
            return self.emission.log_prob(steps)
        seen = torch.where(counted[..., None], steps, 0.0)
        return torch.where(counted[..., None], self.emission.log_prob(seen), 0.0)

    def forward(self, value: Tensor) -> list[Tensor]:
        """Return log p(x_1, ..., x_t, s_t), (*batch, K), for each step; the last stands on."""
        shown, counted = self.log_emissions(value), self.counted()
        found = [self.initial + shown[..., 0, :]]
        for t in range(1, shown.shape[-2]):
            moved = (found[-1].unsqueeze(-1) + self.transition).logsumexp(-2) + shown[..., t, :]
            found.append(
                moved if counted is None else torch.where(counted[..., t, None], moved, found[-1])
            )
        return found

    def backward(self, value: Tensor) -> list[Tensor]:
        """Return log p(x_{t+1}, ..., x_T | s_t), (*batch, K), for each step."""
        shown, counted = self.log_emissions(value), self.counted()
        found = [torch.zeros_like(shown[..., 0, :])]
        for t in range(shown.shape[-2] - 1, 0, -1):
            ahead = (shown[..., t, :] + found[0]).unsqueeze(-2)
            moved = (self.transition + ahead).logsumexp(-1)
            found.insert(
                0, moved if counted is None else torch.where(counted[..., t, None], moved, found[0])
            )
        return found

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of sequences (*batch, *shape), in nats, (*batch)."""
        density = self.forward(value)[-1].logsumexp(-1)
        return density.expand(torch.broadcast_shapes(density.shape, self.batch_shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw sequences, (*sample_shape, *batch, *shape)."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            lead = shape[: len(shape) - len(self.event_shape)]
            states, logits = [], self.initial.expand(*lead, -1)
            for _ in range(self.event_shape[0]):
                states.append(perturbed(logits, logits.shape).argmax(-1))
                logits = self.transition[states[-1]]
            drawn = self.emission.draw(torch.stack(states, -1))
            counted = self.counted()
            drawn = drawn if counted is None else torch.where(counted[..., None], drawn, 0.0)
            return drawn.reshape(shape)

    @property
    def mean(self) -> Tensor:
        """The mean of each step, (*batch, *shape); there is none of symbols."""
        if self.emission.mean is None:
            raise NotImplementedError("symbols have no mean")
        log_state, means = self.initial, []
        for _ in range(self.event_shape[0]):
            means.append(log_state.exp() @ self.emission.mean)
            log_state = (log_state.unsqueeze(-1) + self.transition).logsumexp(-2)
        mean = torch.stack(means).expand(*self.batch_shape, -1, -1)
        counted = self.counted()
        mean = mean if counted is None else torch.where(counted[..., None], mean, 0.0)
        return mean.reshape(self.batch_shape + self.event_shape)


class _Counted(constraints.Constraint):
    """Sequences of which every step that counts lies in the emission's support.

    Raises:
        ValueError: When it checks, a length is no number of the sequence's steps.
    """

    def __init__(self, sequence: MarkovSequence) -> None:
        self.sequence = sequence
        self.event_dim = len(sequence.event_shape)
        self.is_discrete = isinstance(sequence.emission, Symbols)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        steps, counted = self.sequence.steps(value), self.sequence.counted()
        if self.sequence.length is not None:
            check_lengths(self.sequence.length, steps.shape[-2])
        inside: Tensor = self.sequence.emission.support.check(steps).all(-1)
        return (inside if counted is None else inside | ~counted).all(-1)
