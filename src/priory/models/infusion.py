"""Infusion training: a chain from noise that learns on states with the datum mixed in."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.chain import Reverse
from priory.distributions.infused import Infused, infused
from priory.likelihoods import DiscretizedNormal, Likelihood
from priory.models.operator import Kernel, OperatorChain, Said
from priory.nets import TimedNet
from priory.posteriors.normal import LEAST, MOST, limited


class Infusion(OperatorChain):
    r"""A chain from noise whose guide goes the same way, with more and more of the datum infused.

    .. math::
        z_T \sim p_T, \quad z_{t-1} \sim N(m(z_t, t), s^2(z_t, t)), \quad
        x \sim p(x \mid z_1); \qquad
        q(z_{t-1} \mid z_t, x) =
        \prod_i (1 - a_{t-1}) \, p(z_{t-1, i} \mid z_t) + a_{t-1} N(z_{t-1, i}; x_i, w^2)

    Bordes, Honari and Vincent, 2017, Learning to generate samples from noise through infusion
    training. p_T has the training data's moments, each number by itself, and so has every
    transition before it is trained; none but the last is narrower than w / e. Where the data lie on
    L levels, from -1 to 1, means stay within [-2, 2] and deviations below e, that of the last above
    1 / (e (L - 1)): a pixel that is nearly always black would else make the last step so sure that
    one that is not costs more than all the others. The share of infused numbers rises on the way,
    :math:`a_t = \min(1, r (T - t + 1))`, so that q(z_T | x) has a part r of them. The density of q
    is exact, a mixture for each number: `ELBO`, `IWAE` and an evaluation are bounds on log p(x).
    `Infuse` trains it as the paper does, at the cost of a chain without gradients.

    With `likelihood="bernoulli"` the states are bits, and an infused one is the datum's own.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        rate: r, by which the share of infused numbers grows at each step.
        width: w, in the states' units: of data on levels of [0, 1], from -1 to 1, else of a
            number's standard deviation.
        likelihood: Of a datum given z_1; "auto" takes the discretised normal where the training
            data lie on levels of [0, 1], else the normal.

    Raises:
        ValueError: A number is out of range, or a name is unknown.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair, x = Infusion(TimeMLP(8, 1), timesteps=3), torch.randn(5, 2)
        >>> pair.build(x)
        >>> pair.costs(x).shape
        torch.Size([5, 3])
    """

    name = "infusion"
    noise: Tensor

    def __init__(
        self,
        net: TimedNet | str = "time-mlp",
        timesteps: int = 15,
        rate: float = 0.02,
        width: float = 0.02,
        likelihood: Likelihood | str = "auto",
    ) -> None:
        super().__init__(net, timesteps, likelihood)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must lie between 0 and 1, got {rate}")
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive, got {width}")
        self.rate, self.width = rate, width

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the net, and take the training data's moments."""
        super().make(x, y)
        maps = self.head.bias(x)
        assert maps is not None  # noqa: S101
        self.register_buffer("noise", maps.detach().clone())

    def start(self) -> TorchDistribution:
        """Return p(z_T), of the data's moments."""
        return self.states(*self.noise)

    def moved(self, said: Said, z: Tensor, t: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t), the start's moments moved by what the net says."""
        maps = self.maps(said, z, t / self.timesteps)
        first, *log_scale = (a + b for a, b in zip(maps, self.noise, strict=True))
        if not log_scale:
            return self.states(first)
        least, most = LEAST, MOST
        if isinstance(self.likelihood, DiscretizedNormal):
            first, most = limited(first, -1, 1), 0.0
            least = -math.log((self.likelihood.levels or 2) - 1)
        last = t.reshape(*t.shape, *(1,) * self.zeros.dim()) == 1
        wide = limited(log_scale[0], math.log(self.width), most)
        return self.states(first, torch.where(last, limited(log_scale[0], least, most), wide))

    def share(self, t: Tensor) -> Tensor:
        """Return a_t, to be broadcast with states z_t, (*batch, *ones)."""
        a = (self.rate * (self.timesteps - t + 1)).clamp(max=1).to(self.zeros)
        return a.reshape(*t.shape, *(1,) * self.zeros.dim())

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", self.towards(x))

    def towards(self, x: Tensor) -> Reverse:
        """Return q(z_1, ..., z_T | x), for data (*batch, *shape)."""
        start, shape = self.head.scaled(x), self.zeros.shape
        batch = x.shape[: x.dim() - len(shape)]
        kernel = _Infusing(self, start)
        given = (start.reshape(*batch, -1),)
        return Reverse(kernel, shape, given, batch, has_rsample=not self.of_bits)

    def costs(self, x: Tensor) -> Tensor:
        """Return -log p(x | z_t) by each step's own transition, in nats, (*batch, T).

        The states are those of an infused chain, and constants.

        Args:
            x: Data, (*batch, *shape).
        """
        z = self.towards(x).sample()
        t = torch.arange(1, self.timesteps + 1, device=x.device)
        axis = x.dim() - self.zeros.dim()
        return -self.observe(self.transition(z, t)).log_prob(x.unsqueeze(axis))


class _Infusing(Kernel):
    """The guide's start and transitions.

    Args:
        pair: Whose.
        x: Data in the states' units, (*batch, *shape).
    """

    pair: Infusion

    def __init__(self, pair: Infusion, x: Tensor) -> None:
        super().__init__(pair)
        self.x, self.timesteps = x, pair.timesteps

    def start(self) -> Infused:
        """Return q(z_T | x)."""
        last = torch.full((), self.timesteps, device=self.x.device)
        return infused(self.pair.start(), self.x, self.pair.share(last), self.pair.width)

    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> Infused:
        """Return q(z_{t-1} | z_t, x), of x as vectors."""
        pair = self.pair
        x = given[0].reshape(*given[0].shape[:-1], *pair.zeros.shape)
        return infused(pair.moved(self.said, z, t), x, pair.share(t - 1), pair.width)

    def descend(self, z: Tensor, *given: Tensor) -> Iterator[Tensor]:
        """Yield draws of z_T, ..., z_1, the first of which is given."""
        yield z
        for t in range(self.timesteps, 1, -1):
            z = self.transition(z, torch.full((), t, device=z.device), *given)()
            yield z
