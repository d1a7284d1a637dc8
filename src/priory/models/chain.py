"""What a Markov chain that generates is: a corruption as guide, and transitions that undo it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence

from priory.distributions.chain import Forward, Reverse, spread_steps
from priory.models.pair import Pair

FORGOTTEN = 1e-3  # nats per dimension, which the last state knows of the datum at most
_LOOKED_AT = 1000  # rows
_ROWS = 4096  # states at a time, where all steps are summed


class Corruption(nn.Module, ABC):
    r"""A Markov chain that forgets the datum by and by, :math:`q(z_1, \dots, z_T \mid x)`.

    States have the datum's shape; t is a tensor of integers from 1 to T that is broadcast with
    the batch, and z_0 = x. Where marginals and posteriors have a closed form, steps are trained and
    judged one by one.

    Attributes:
        steps: T.
        support: A torch constraint of one number of a state.
        has_rsample: Whether draws have gradients.
    """

    steps: int
    support: Any
    has_rsample: bool = True

    @abstractmethod
    def step(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:
        """Return q(z_t | z_{t-1}, x), for z = z_{t-1} (*batch, *shape)."""

    def marginal(self, x: Tensor, t: Tensor) -> TorchDistribution:
        """Return q(z_t | x), for x (*batch, *shape).

        Raises:
            NotImplementedError: It has no closed form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no marginals in closed form")

    def posterior(self, z: Tensor, t: Tensor, x: Tensor) -> TorchDistribution:
        """Return q(z_{t-1} | z_t, x), for z = z_t (*batch, *shape).

        At t = 1 it is a point, of which anything of a finite density may stand here.

        Raises:
            NotImplementedError: It has no closed form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no posteriors in closed form")


class Terms(NamedTuple):
    """The parts of a chain's negative bound on log p(x), each (n,), in nats, float64.

    Args:
        datum: -E log p(x | z_1).
        steps: The divergences of the steps 2 to T together.
        end: KL(q(z_T | x) || p(z_T)).
        labels: -log p(y) of what the model observes beside x; 0 of most.
    """

    datum: Tensor
    steps: Tensor
    end: Tensor
    labels: Tensor

    @property
    def total(self) -> Tensor:
        """The negative bound, (n,)."""
        return self.datum + self.steps + self.end + self.labels


class LatentChain(Pair):
    r"""A pair whose latent `z` is the way of a chain, one site of shape (T, *shape), z_1 first.

    .. math:: z_T \sim p(z_T), \quad z_{t-1} \sim p(z_{t-1} \mid z_t), \quad x \sim p(x \mid z_1)

    Every bound of a pair is one of a chain. One of one's own has a likelihood (a part that is a
    `Decoder`, or a property), in whose units, `head.scaled(x)`, the states are, and writes `start`,
    `transition`, `observe` and `guide`, in which z is of the distribution `Forward`, `Reverse` or
    another over ways.

    Args:
        timesteps: T.

    Attributes:
        zeros: Zeros of the datum's shape, once it is built.
    """

    zeros: Tensor

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        if timesteps < 1:
            raise ValueError(f"timesteps must be positive, got {timesteps}")
        self.timesteps = timesteps

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parameters."""
        super().make(x, y)
        self.register_buffer("zeros", x.new_zeros(x.shape[1:]), persistent=False)

    @abstractmethod
    def start(self) -> TorchDistribution:
        """Return p(z_T), batch shape (), event shape (*shape)."""

    @abstractmethod
    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t), for z = z_t (*batch, *shape) and t from 1 to T.

        z_0 is the datum in the states' units; `observe` makes p(x | z_1) of the distribution at
        t = 1.

        Args:
            z: States.
            t: Their steps, integers that are broadcast with the batch.
            given: Vectors that are read besides, (*batch, width) each, as `given` returns them.
        """

    @abstractmethod
    def observe(self, first: TorchDistribution) -> TorchDistribution:
        """Return p(x | z_1) from the transition at t = 1."""

    def given(self, **columns: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Return vectors (*batch, width) that transitions read, made of the columns beside x."""
        return ()

    def descend(self, z: Tensor, *given: Tensor) -> Iterator[Tensor]:
        """Yield draws of z_T, ..., z_1, the first of which is given.

        Args:
            z: z_T, (*batch, *shape).
            given: As in `transition`.
        """
        yield z
        for t in range(self.timesteps, 1, -1):
            z = self.transition(z, torch.full((), t, device=z.device), *given)()
            yield z

    @torch.no_grad()
    def way(self, n: int, steps: int | None = None) -> Iterator[Tensor]:
        """Yield the states of n ways down to the datum, (n, *shape) each, z_T first, x last.

        They are in the data's units, and drawn as samples are.

        Args:
            n: Number of ways.
            steps: None; T is the chain's own.

        Raises:
            ValueError: Steps are asked for.
        """
        if steps is not None:
            raise ValueError(
                f"the way of {type(self).__name__} has {self.timesteps} steps of its own: leave "
                "the number of steps out"
            )
        given = self.given(**self.drawn_columns(n))
        for z in self.descend(self.start().expand((n,))(), *given):
            yield self.unscaled(z)
        yield self.observe(self.transition(z, self._ones(z), *given))()

    def unscaled(self, z: Tensor) -> Tensor:
        """Return states (*batch, *shape) in the data's units."""
        low = self.head.scaled(self.zeros)
        return (z - low) / (self.head.scaled(self.zeros + 1) - low)

    def drawn_columns(self, n: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Draw the columns beside x that n ways are given, (n, ...) each."""
        return {}

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            self.generate(x)

    def generate(self, x: Tensor, *given: Tensor) -> None:
        """Declare the sites z and x, within the batch plate.

        Args:
            x: Data, (*batch, *shape).
            given: As in `transition`.
        """
        lead = given[0].shape[:-1] if given else torch.Size()
        shape = self.zeros.shape
        z = pyro.sample("z", Reverse(self, shape, given, lead))
        first = self.transition(z.select(-1 - len(shape), 0), self._ones(x), *given)
        pyro.sample("x", self.observe(first), obs=x)

    def _ones(self, x: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.long, device=x.device)


class MarkovChain(LatentChain):
    r"""A pair whose latent `z` is the way of a chain, one site of shape (T, *shape), z_1 first.

    .. math:: z_T \sim p(z_T), \quad z_{t-1} \sim p(z_{t-1} \mid z_t), \quad x \sim p(x \mid z_1);
        \qquad z_t \sim q(z_t \mid z_{t-1}, x), \quad z_0 = x

    Every bound of a pair is one of a chain. The negative ELBO is also a sum over steps,

    .. math:: L = L_T + \sum_{t=1}^T L_{t-1}, \qquad L_T = KL(q(z_T \mid x) \| p(z_T)), \quad
        L_0 = -E \log p(x \mid z_1), \quad
        L_{t-1} = E_{q(z_t \mid x)} KL(q(z_{t-1} \mid z_t, x) \| p(z_{t-1} \mid z_t)),

    of which `Steps` takes some at a time, and an evaluation all, without the variance that closed
    forms spare. Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, 2015, Deep unsupervised
    learning using nonequilibrium thermodynamics.

    A chain of one's own has a likelihood (a part that is a `Decoder`, or a property), in whose
    units, `head.scaled(x)`, the states are, and writes `corrupting`, `start`, `transition`
    and `observe`. One whose corruption lacks closed forms writes `term` and `end` as well.

    Args:
        timesteps: T.

    Attributes:
        corruption: The guide's kernels, once it is built.
        zeros: Zeros of the datum's shape, once it is built.
        weightings: By which `Steps` may weigh its steps; "bound" if L is one.
    """

    corruption: Corruption
    zeros: Tensor
    weightings: ClassVar[tuple[str, ...]] = ("bound",)

    @abstractmethod
    def corrupting(self, event_dim: int) -> Corruption:
        """Return the guide's kernels for data with some number of dims."""

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parameters, and the corruption.

        Raises:
            ValueError: The last state knows too much of the data.
        """
        super().make(x, y)
        self.corruption = self.corrupting(x.dim() - 1).to(device=x.device)
        self.check_end(x)

    @torch.no_grad()
    def check_end(self, x: Tensor) -> None:
        """Raise a ValueError if the last state knows more than `FORGOTTEN` of data (n, *shape)."""
        rows = x[:: max(1, len(x) // _LOOKED_AT)]
        known = float(self.end(rows).mean()) / max(1, self.zeros.numel())
        if not known < FORGOTTEN:
            raise ValueError(
                f"after {self.timesteps} steps the last state knows {known:.2g} nats per dimension "
                f"of the data, and p(z_T) nothing: below {FORGOTTEN:g} are asked for; take more "
                "steps, or a schedule that forgets more, such as noise='cosine'"
            )

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            start = self.head.scaled(x)
            pyro.sample("z", Forward(self.corruption, start, self.zeros.dim()))

    def term(self, t: Tensor, x: Tensor, *, weighting: str = "bound", **columns: Tensor) -> Tensor:
        """Return a draw of L_{t-1}, unbiased, in nats, (*batch); or of what stands in its place.

        Args:
            t: Steps from 1 to T, (*batch).
            x: Data, (*rows, *shape), whose rows are broadcast with the steps.
            weighting: One of `weightings`; all but "bound" are no part of a bound.
            columns: The columns that the model takes beside x.
        """
        z = self.corruption.marginal(self.head.scaled(x), t)()
        return self.cost_of_step(z, t, x, *self.given(**columns), weighting=weighting)

    def cost_of_step(
        self, z: Tensor, t: Tensor, x: Tensor, *given: Tensor, weighting: str = "bound"
    ) -> Tensor:
        """Return what a step costs at given states, in nats, (*batch); see `term`.

        Args:
            z: States z_t, (*batch, *shape).
            t: Their steps, (*batch).
            x: Data.
            given: As in `transition`.
            weighting: As in `term`.
        """
        del weighting
        return self.divergence(self.transition(z, t, *given), z, t, x)

    def divergence(self, p: TorchDistribution, z: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """Return KL(q(z_{t-1} | z_t, x) || p), and -log p(x | z_1) at t = 1, in nats, (*batch).

        Args:
            p: The transition p(z_{t-1} | z_t).
            z: States z_t, (*batch, *shape).
            t: Their steps, (*batch).
            x: Data.
        """
        q = self.corruption.posterior(z, t, self.head.scaled(x))
        return torch.where(t == 1, -self.observe(p).log_prob(x), kl_divergence(q, p))

    def cost_of_labels(self, **columns: Tensor) -> Tensor | float:  # noqa: ARG002
        """Return -log p of what the model observes beside x, in nats, (*rows)."""
        return 0.0

    def end(self, x: Tensor) -> Tensor:
        """Return L_T of each datum, in nats, (*rows).

        Args:
            x: Data, (*rows, *shape).
        """
        last = torch.full((), self.timesteps, device=x.device)
        return kl_divergence(self.corruption.marginal(self.head.scaled(x), last), self.start())

    def draws_of_each(self, particles: int) -> int:
        """Return how often each step is drawn: K states of a datum in all, or one of every step.

        Args:
            particles: K.
        """
        return max(1, particles // self.timesteps)

    @torch.no_grad()
    def sketch(self, x: Tensor, *, particles: int = 16, **columns: Any) -> Tensor:
        r"""Return a draw of each datum's negative bound by K of its steps, in nats, (n,), float64.

        .. math:: L_0 + \frac{T - 1}{K - 1} \sum_{k=2}^K L_{t_k - 1} + L_T

        Unbiased: the steps t from 2 to T are spread evenly over them, as in `Steps`. The datum's
        own, which tends to be the largest, is always among them. Of T steps or fewer, all are
        taken.

        Args:
            x: Data, (n, *shape).
            particles: K, 2 at the least.
            columns: The columns that the model takes beside x.
        """
        others = max(2, particles) - 1
        if others >= self.timesteps - 1:
            return self.terms(x, **columns).total
        t = 1 + spread_steps(len(x), self.timesteps - 1, others, x.device)
        t = torch.cat([torch.ones_like(t[:1]), t])
        cost = torch.cat(
            [
                self.term(rows, x, **columns).double()
                for rows in t.split(max(1, _ROWS // max(1, len(x))))
            ]
        )
        steps = cost[1:].mean(0) * (self.timesteps - 1)
        return cost[0] + steps + self.end(x).double() + self.cost_of_labels(**columns)

    @torch.no_grad()
    def terms(self, x: Tensor, *, draws: int = 1, **columns: Any) -> Terms:
        """Return all parts of the negative bound, by some draws of each step, in blocks of steps.

        Args:
            x: Data, (n, *shape).
            draws: Of every step for each datum.
            columns: The columns that the model takes beside x.
        """
        steps = torch.arange(1, self.timesteps + 1, device=x.device).repeat(draws)
        first = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        others = torch.zeros_like(first)
        for t in steps.split(max(1, _ROWS // max(1, len(x)))):
            t = t.unsqueeze(-1).expand(-1, len(x))
            cost = self.term(t, x, **columns).double() / draws
            first += torch.where(t == 1, cost, 0.0).sum(0)
            others += torch.where(t == 1, 0.0, cost).sum(0)
        labels = first.new_zeros(()) + self.cost_of_labels(**columns)
        return Terms(first, others, self.end(x).double(), labels.expand_as(first))
