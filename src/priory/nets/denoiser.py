"""The denoiser: a net with a time and a likelihood, as a chain's transitions need them."""

from __future__ import annotations

from torch import Tensor, nn

from priory.likelihoods import Bernoulli, DiscretizedNormal, Likelihood, Normal
from priory.likelihoods.discretized_normal import levels_of
from priory.lookup import lookup
from priory.nets.decoder import Decoder
from priory.nets.encoder import Width
from priory.nets.table import TIMED
from priory.nets.timed import TimedNet


class Denoiser(Decoder):
    r"""From a state of a chain and its time to maps of the datum's shape; owns the likelihood.

    .. math:: f(z_t, t, c)

    The states are in the likelihood's units, `likelihood.scaled(x)`.

    Args:
        net: f; a net with a time, or a name.
        likelihood: Of a datum given z_1; "auto" takes the discretised normal where the training
            data lie on levels of [0, 1], else the normal.
        params: Number of maps.
        given: Number of coordinates that the net reads beside the state.

    Raises:
        ValueError: A name is unknown; when it is built, if the likelihood doesn't suit a chain.

    Example:
        >>> import torch
        >>> denoiser = Denoiser("time-mlp")
        >>> denoiser.build(torch.randn(10, 3))
        >>> denoiser(torch.zeros(5, 3), torch.rand(5)).shape
        torch.Size([5, 1, 3])
    """

    def __init__(
        self,
        net: TimedNet | str,
        likelihood: Likelihood | str = "auto",
        params: int = 1,
        given: Width | int = 0,
    ) -> None:
        super().__init__(net, _State(), likelihood, given)
        self.params = params

    def named(self, net: nn.Module | str) -> TimedNet:
        """Return a net with a time, or that of a name."""
        found = lookup("net with a time", net, TIMED)
        if not isinstance(found, TimedNet):
            raise TypeError(
                "a chain's net reads a state and its time: give a TimedNet, such as "
                f"{', '.join(TIMED)}; got {type(found).__name__}"
            )
        return found

    def choose(self, x: Tensor) -> Likelihood:
        """Return the likelihood, built for data that it was held against.

        Args:
            x: Training data, (n, *shape).

        Raises:
            ValueError: The data don't suit the likelihood, it is built for others, or it has no
                scale that a transition may give.
        """
        if isinstance(self.likelihood, str):
            levels = levels_of(x)
            found = Normal("pixel") if levels is None else DiscretizedNormal(levels)
            found.check(x)
            found.build(x)
            self.likelihood, self._chosen = found, True
        if isinstance(self.likelihood, Normal) and self.likelihood.scale != "pixel":
            raise ValueError(
                "the scale of p(x | z_1) is that of the last transition: take "
                "likelihood='normal:pixel', or 'auto'"
            )
        if not isinstance(self.likelihood, Normal | DiscretizedNormal | Bernoulli):
            raise ValueError(
                f"a transition gives a normal or bits, and {type(self.likelihood).__name__} is "
                "neither: take likelihood='discretized-normal', 'normal:pixel' or 'auto'"
            )
        return super().choose(x)

    def make(self, x: Tensor) -> None:
        """Make the net."""
        self.choose(x)
        given = self._seen[1]
        width = given if isinstance(given, int) else given.width
        self.net.build(tuple(x.shape[1:]), self.params, width)

    def forward(  # type: ignore[override]
        self, z: Tensor, t: Tensor, *given: Tensor
    ) -> Tensor:
        """Return maps (*batch, params, *shape) of states (*batch, *shape).

        Args:
            z: States.
            t: Their times from 0 to 1, (*batch).
            given: What the net reads besides, one tensor (*batch, width) at most.

        Raises:
            RuntimeError: There are no parameters yet.
        """
        self.check_built()
        found: Tensor = self.net(z, t, *given)
        return found


class _State:
    """What a decoder sees where it reads states."""

    features = 0

    def embed(self, z: Tensor) -> Tensor:
        """Return what is given."""
        return z
