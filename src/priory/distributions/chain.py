"""Whole ways of a Markov chain: from the datum to noise, and back from noise to the datum.

A way z_1, ..., z_T is one event of shape (T, *shape), z_1 first, the state nearest to the datum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from math import prod
from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.checkpoint import checkpoint

from priory.distributions.independent import of_one_number

_ROWS = 4096  # states that are scored at a time


class ForwardKernel(Protocol):
    """What a forward way asks of a corruption.

    Args:
        steps: T.
        support: A torch constraint of one number of a state.
        has_rsample: Whether draws have gradients.
    """

    steps: int
    support: Any
    has_rsample: bool

    def step(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:
        """Return q(z_t | z_{t-1}, x)."""


class ReverseKernel(Protocol):
    """What a reverse way asks of a chain.

    Args:
        timesteps: T.
    """

    timesteps: int

    def start(self) -> TorchDistribution:
        """Return p(z_T), batch shape ()."""

    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t)."""

    def descend(self, z: Tensor, *given: Tensor) -> Iterable[Tensor]:
        """Yield draws of z_T, ..., z_1."""


class Way(TorchDistribution):
    """A distribution over ways, events of shape (T, *shape).

    Args:
        batch_shape: Of the ways.
        steps: T.
        shape: Of a state.
        support: A torch constraint of one number of a state.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, batch_shape: Size, steps: int, shape: Size, support: Any) -> None:
        self._support = constraints.independent(support, 1 + len(shape))
        super().__init__(batch_shape, Size((steps, *shape)), validate_args=False)

    @property
    def support(self) -> Any:
        """Where all states lie."""
        return self._support

    @property
    def axis(self) -> int:
        """Where the steps are among a way's dims, counted from the end."""
        return -len(self.event_shape)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Way:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def scored(self, score: Callable[..., Tensor], *states: Tensor, first: int) -> Tensor:
        """Sum a score of each step over the steps, in blocks that bound the memory.

        Where gradients are wanted a block's intermediate values are computed anew for them.

        Args:
            score: Of blocks of the states (*batch, k, *shape), and of their steps, (k,).
            states: What it reads of the steps, (*batch, steps, *shape) each.
            first: The first step's number.
        """
        count = states[0].shape[self.axis]
        rows = prod(states[0].shape[: self.axis])
        size = max(1, _ROWS // max(1, rows))
        steps = torch.arange(first, first + count, device=states[0].device)
        blocks = zip(*(s.split(size, self.axis) for s in states), steps.split(size), strict=True)
        again = count > size and torch.is_grad_enabled() and get_proxy_mode() is None
        total: Any = 0.0
        for block in blocks:
            part = checkpoint(score, *block, use_reentrant=False) if again else score(*block)
            total = total + part.sum(-1)
        found: Tensor = total
        return found


class Forward(Way):
    r"""The way from a datum to noise, by a corruption.

    .. math:: q(z_1, \dots, z_T \mid x) = \prod_t q(z_t \mid z_{t-1}, x), \qquad z_0 = x

    Args:
        corruption: Its kernels.
        x: Data in the units of the states, (*batch, *shape).
        event_dim: How many of the last dims are one datum.
    """

    def __init__(self, corruption: ForwardKernel, x: Tensor, event_dim: int) -> None:
        self.corruption, self.x = corruption, x
        self.has_rsample = corruption.has_rsample
        cut = x.dim() - event_dim
        super().__init__(x.shape[:cut], corruption.steps, x.shape[cut:], corruption.support)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of ways (*batch, T, *shape), in nats, (*batch)."""
        x = self.x.unsqueeze(self.axis)
        lead = torch.broadcast_shapes(value.shape[: self.axis], self.x.shape[: self.axis + 1])
        value = value.expand(*lead, *self.event_shape)
        start = x.expand(*lead, 1, *self.event_shape[1:])
        before = torch.cat(
            [start, value.narrow(self.axis, 0, value.shape[self.axis] - 1)], self.axis
        )

        def score(now: Tensor, former: Tensor, t: Tensor) -> Tensor:
            return self.corruption.step(former, t, x).log_prob(now)

        return self.scored(score, value, before, first=1)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw ways (*sample_shape, *batch, T, *shape), step by step."""
        lead = Size(sample_shape) + self.batch_shape
        x = self.x.expand(*lead, *self.event_shape[1:])
        kernel = self.corruption

        def states() -> Iterable[Tensor]:
            z = x
            for t in range(1, kernel.steps + 1):
                z = kernel.step(z, torch.full((), t, device=x.device), x)()
                yield z

        return _beside(states(), kernel.steps, self.axis)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw ways without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)


class Reverse(Way):
    r"""The way back from noise, by the transitions of a chain.

    .. math:: p(z_1, \dots, z_T) = p(z_T) \prod_{t=2}^T p(z_{t-1} \mid z_t)

    A draw keeps no gradient; `rsample` keeps those of all T steps, where the transitions' draws
    have any.

    Args:
        chain: Its start and its transitions.
        given: Vectors that the transitions read besides, (*batch, width) each.
        shape: Of a state.
        batch_shape: Of the ways.
        has_rsample: Whether `pyro.sample` draws with gradients.
    """

    def __init__(
        self,
        chain: ReverseKernel,
        shape: Size,
        given: tuple[Tensor, ...] = (),
        batch_shape: Size = Size(),  # noqa: B008
        has_rsample: bool = False,
    ) -> None:
        self.chain, self.given, self.has_rsample = chain, given, has_rsample
        start = of_one_number(chain.start().support)
        super().__init__(batch_shape, chain.timesteps, shape, start)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of ways (*batch, T, *shape), in nats, (*batch)."""
        last = self.event_shape[0] - 1
        given = [g.unsqueeze(-2) for g in self.given]
        total = self.chain.start().log_prob(value.select(self.axis, last))
        if last:

            def score(now: Tensor, after: Tensor, t: Tensor) -> Tensor:
                return self.chain.transition(after, t, *given).log_prob(now)

            now, after = (value.narrow(self.axis, at, last) for at in (0, 1))
            total = total + self.scored(score, now, after, first=2)
        return total.expand(torch.broadcast_shapes(total.shape, self.batch_shape))

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw ways (*sample_shape, *batch, T, *shape), with the gradients that there are."""
        end = self.chain.start().expand(Size(sample_shape) + self.batch_shape)()
        states = self.chain.descend(end, *self.given)
        return _beside(states, self.event_shape[0], self.axis, backwards=True)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw ways without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)


def _beside(states: Iterable[Tensor], steps: int, axis: int, *, backwards: bool = False) -> Tensor:
    """Put states (*batch, *shape) beside one another, (*batch, steps, *shape).

    Without gradients they are written into one array as they come.

    Args:
        states: As they are drawn.
        steps: How many there are.
        axis: Where they go, counted from the end of the result's dims.
        backwards: Whether the last state comes first.
    """
    order = range(steps - 1, -1, -1) if backwards else range(steps)
    if torch.is_grad_enabled():
        drawn = [*states]
        return torch.stack(drawn[::-1] if backwards else drawn, axis)
    whole: Tensor | None = None
    for place, z in zip(order, states, strict=True):
        if whole is None:
            cut = z.dim() + axis + 1
            whole = z.new_empty(*z.shape[:cut], steps, *z.shape[cut:])
        whole.select(axis, place).copy_(z)
    assert whole is not None  # noqa: S101
    return whole


def spread_steps(rows: int, steps: int, draws: int, device: torch.device) -> Tensor:
    r"""Draw steps from 1 to T for the rows of a batch, evenly spread, (draws, rows).

    .. math:: t_i = 1 + \lfloor T ((u + i / m) \bmod 1) \rfloor, \qquad u \sim U(0, 1)

    Args:
        rows: Of the batch.
        steps: T.
        draws: Steps of each row; m is as many for each of all rows.
        device: Where they are wanted.

    Example:
        >>> spread_steps(4, 4, 1, torch.device("cpu")).sort().values
        tensor([[1, 2, 3, 4]])
    """
    return placed_steps(torch.rand((), dtype=torch.float64, device=device), rows, steps, draws)


def placed_steps(u: Tensor, rows: int, steps: int, draws: int) -> Tensor:
    """Return the steps that a number u of [0, 1) spreads; see `spread_steps`."""
    m = rows * draws
    place = (u + torch.arange(m, dtype=torch.float64, device=u.device) / m) % 1.0
    t = 1 + (steps * place).floor().long().clamp(max=steps - 1)
    return t.reshape(draws, rows)
