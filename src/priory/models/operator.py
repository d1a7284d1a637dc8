"""Chains of one transition operator, a net with a time that gives normal states or bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.func import functional_call

from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Bernoulli, Likelihood
from priory.models.chain import LatentChain
from priory.nets import Denoiser, TimedNet

Said = Callable[[Tensor, Tensor], Tensor]
"""From states (*batch, *shape) and times (*batch) to maps (*batch, params, *shape)."""


class OperatorChain(LatentChain):
    """A chain whose transitions a net with a time makes, within its part `denoiser`.

    States are normal, by maps of their means and log standard deviations; with the likelihood of
    bits they are bits, by their log-odds.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        likelihood: Of a datum given z_1.
    """

    def __init__(
        self, net: TimedNet | str, timesteps: int, likelihood: Likelihood | str = "auto"
    ) -> None:
        super().__init__(timesteps)
        self.denoiser = Denoiser(net, likelihood)
        self.denoiser.params = 1 if self.of_bits else 2

    @property
    def net(self) -> TimedNet:
        """The net with a time."""
        found: TimedNet = self.denoiser.net
        return found

    @property
    def of_bits(self) -> bool:
        """Whether states are bits."""
        return isinstance(self.likelihood, Bernoulli)

    @abstractmethod
    def moved(self, said: Said, z: Tensor, t: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t) by what a net says, the chain's own or that of `held`."""

    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> TorchDistribution:  # noqa: ARG002
        """Return p(z_{t-1} | z_t)."""
        return self.moved(self.denoiser, z, t)

    def held(self) -> Said:
        """Return the net, with constants for its parameters where these get no gradient now.

        A way is scored after its program has run. An objective that holds the guide's parameters
        while it runs would have let go of them by then, and they are the model's too.
        """
        weights = dict(self.denoiser.named_parameters())
        if any(weight.requires_grad for weight in weights.values()):
            return self.denoiser
        fixed = {name: weight.detach() for name, weight in weights.items()}

        def said(z: Tensor, t: Tensor) -> Tensor:
            maps: Tensor = functional_call(self.denoiser, fixed, (z, t))
            return maps

        return said

    def maps(self, said: Said, z: Tensor, time: Tensor) -> Tensor:
        """Return what the net says of states (*batch, *shape), (params, *batch, *shape)."""
        return said(2 * z - 1 if self.of_bits else z, time).movedim(-1 - self.zeros.dim(), 0)

    def states(self, loc: Tensor, log_scale: Tensor | None = None) -> TorchDistribution:
        """Return a distribution of states, of means and log standard deviations, or of log-odds."""
        if log_scale is None:
            return IndependentBernoulli(loc, self.zeros.dim())
        return IndependentNormal(loc, log_scale, self.zeros.dim())

    def observe(self, first: TorchDistribution) -> TorchDistribution:
        """Return p(x | z_1), in the data's units."""
        assert isinstance(first, IndependentNormal | IndependentBernoulli)  # noqa: S101
        maps = (
            (first.loc, first.log_scale)
            if isinstance(first, IndependentNormal)
            else (first.logits,)
        )
        return self.head.distribution(maps, self.zeros.dim())


class Kernel(nn.Module):
    """Half of a guide that draws by its pair's own operator, which objectives find in it.

    Args:
        pair: Whose.
    """

    def __init__(self, pair: OperatorChain) -> None:
        super().__init__()
        self.pair = pair
        self.said = pair.held()
