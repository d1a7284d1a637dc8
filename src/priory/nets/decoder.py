"""The decoder: a net and a likelihood, as one map from latents to p(x | z)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.padded import Padded
from priory.likelihoods import LIKELIHOODS, Columns, Delta, Likelihood, likelihood_for
from priory.likelihoods.values import SMALL, starts_small
from priory.lookup import lookup
from priory.nets.encoder import Width
from priory.nets.one_hot import beside
from priory.nets.steps import along
from priory.nets.table import net_of
from priory.part import Part


class Embedding(Protocol):
    """What a decoder asks of a prior."""

    @property
    def features(self) -> int:
        """How many numbers it sees of a latent."""

    def embed(self, z: Tensor) -> Tensor:
        """Map latents (*batch, latent) to what it sees, (*batch, features)."""


class Decoder(Part):
    r"""From a latent to the distribution p(x | z) of a datum; the owner of the likelihood.

    .. math:: p(x \mid z) = p(x; f(z))

    It starts at the data's own: where the features say nothing, the likelihood's mean is that of
    the training rows. Of a table the latent says little at first, so that a pair's first bound is
    near that of independent columns whatever they hold; an implicit model starts as it was drawn.

    Args:
        net: f, from the embedded latent to the likelihood's features; a net, any module, or a name.
        prior: Of the latent; its `embed` is what the net sees.
        likelihood: Of a datum; "auto" takes the one that fits the training data's values.
        given: Number of coordinates that the net reads beside the latent's.

    Attributes:
        auto: Whether the likelihood is chosen from the data.

    Raises:
        ValueError: A name is unknown.

    Example:
        >>> import torch
        >>> from priory.priors import Normal
        >>> prior, x = Normal(), torch.randn(10, 3)
        >>> prior.build(2, x)
        >>> decoder = Decoder("mlp", prior)
        >>> decoder.build(x)
        >>> decoder(torch.zeros(5, 2)).event_shape
        torch.Size([3])
    """

    _kind = "decoder"

    def __init__(
        self,
        net: nn.Module | str,
        prior: Embedding,
        likelihood: Likelihood | str = "auto",
        given: Width | int = 0,
    ) -> None:
        super().__init__()
        self.net: Any = self.named(net)
        self.auto = likelihood == "auto"
        self.likelihood: Any = (
            likelihood if self.auto else lookup("likelihood", likelihood, LIKELIHOODS)
        )
        self._chosen = False
        # In a tuple a module is no submodule, so its parameters are not listed twice.
        self._seen = (prior, given)

    def named(self, net: nn.Module | str) -> nn.Module:
        """Return a net, or that of a name."""
        return net_of(net)

    @property
    def constructor_argument(self) -> nn.Module:
        """What a pair's constructor is given to make it, for a run's configuration."""
        return self.net

    def meet(self, names: Sequence[str], levels: Sequence[Sequence[str]]) -> None:
        """Learn what a table's columns are called; categories among them have a likelihood each.

        Args:
            names: Of the columns; none where they have no names.
            levels: Of each column the names of its levels, none of a column of numbers; empty where
                all are numbers.

        Raises:
            ValueError: A column has levels, and the likelihood is one of numbers.
        """
        if isinstance(self.likelihood, str) and any(levels):
            self.likelihood = Columns()
        if isinstance(self.likelihood, Likelihood) and not self._chosen:
            self.likelihood.meet(names, levels)

    def choose(self, x: Tensor) -> Likelihood:
        """Return the likelihood, built for data that it was held against.

        Args:
            x: Training data, (n, *shape).

        Raises:
            ValueError: The data don't suit the likelihood, or it is built for others.
        """
        auto = isinstance(self.likelihood, str)
        likelihood: Likelihood = likelihood_for(x) if auto else self.likelihood
        if not self._chosen:
            likelihood.check(x)
            likelihood.build(x)
            self.likelihood, self._chosen = likelihood, True
        return likelihood

    def build(self, x: Tensor) -> None:
        """Make the parameters; a second call for the same shape does nothing.

        Args:
            x: Training data, (n, *shape).

        Raises:
            ValueError: The data don't suit the likelihood, or the net's size doesn't fit.
        """
        self.build_once(tuple(x.shape[1:]), lambda: self.make(x))

    def make(self, x: Tensor) -> None:
        """Make the net, and set its output's start."""
        likelihood = self.choose(x)
        prior, given = self._seen
        inputs = prior.features + (given if isinstance(given, int) else given.width)
        self.net.build((inputs,), (likelihood.params, *x.shape[1:]))
        if starts_small(x) and not isinstance(likelihood, Delta):
            self.net.temper(SMALL)
        likelihood.span(x, getattr(self.net, "output", "linear"))
        bias = likelihood.bias(x)
        if bias is not None:
            self.net.set_bias(bias)

    def forward(self, z: Tensor, *given: Tensor, length: Tensor | None = None) -> TorchDistribution:
        """Return p(x | z), batch shape (*batch), for latents (*batch, latent).

        Args:
            z: Latents, (*batch, latent).
            given: What the net reads beside them, (*batch, k) each.
            length: Steps of each datum that is a sequence, (*batch), whose padding never counts;
                None where all are full.

        Raises:
            RuntimeError: There are no parameters yet.
            ValueError: There are lengths, and the likelihood has no independent entries.
        """
        self.check_built()
        features = self._seen[0].embed(z)
        for other in given:
            features = beside(features, other)
        found: TorchDistribution = self.likelihood(along(self.net, features, length))
        return found if length is None else Padded(found, length)
