"""The autoregressive decoder: p(x | z) in which a coordinate reads those before it, and z."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.autoregressive import Autoregressive
from priory.likelihoods import Delta, Likelihood
from priory.lookup import lookup
from priory.nets.autoregressive import AutoregressiveNet
from priory.nets.decoder import Decoder, Embedding
from priory.nets.table import AUTOREGRESSIVE

_WATCH: ContextVar[Callable[[int, int], object] | None] = ContextVar("watch", default=None)


@contextmanager
def watched(report: Callable[[int, int], object]) -> Iterator[None]:
    """Report how far draws are that are made place by place, for a while.

    Args:
        report: Is called after each place, with how many are drawn and how many there are.
    """
    token = _WATCH.set(report)
    try:
        yield
    finally:
        _WATCH.reset(token)


class AutoregressiveDecoder(Decoder):
    r"""From a latent to an autoregressive distribution of a datum, or to one without any latent.

    .. math:: p(x \mid z) = \prod_i p(x_i; f_i(x_1, \dots, x_{i-1}, z))

    A density is one pass of the net, a draw one for each place of a datum. It starts at the
    training rows' own mean, whatever the latent.

    Args:
        net: f, from a datum and the embedded latent to the likelihood's features; an
            autoregressive net, or a name.
        prior: Of the latent; None where there is no latent.
        likelihood: Of a coordinate; "auto" takes the one that fits the training data's values.

    Raises:
        ValueError: A name is unknown.
        TypeError: The net isn't autoregressive.

    Example:
        >>> decoder, x = AutoregressiveDecoder("made"), torch.randn(10, 3)
        >>> decoder.build(x)
        >>> decoder().log_prob(x).shape, decoder().sample((4,)).shape
        (torch.Size([10]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        net: AutoregressiveNet | str,
        prior: Embedding | None = None,
        likelihood: Likelihood | str = "auto",
    ) -> None:
        super().__init__(net, _Nothing() if prior is None else prior, likelihood)

    def named(self, net: nn.Module | str) -> AutoregressiveNet:
        """Return an autoregressive net, or that of a name."""
        found = lookup("autoregressive net", net, AUTOREGRESSIVE)
        if not isinstance(found, AutoregressiveNet):
            raise TypeError(
                "an autoregressive decoder needs a net whose outputs read what stands before them, "
                f"such as {', '.join(AUTOREGRESSIVE)}; got {type(found).__name__}"
            )
        return found

    def make(self, x: Tensor) -> None:
        """Make the net, and set its output's start.

        Raises:
            ValueError: The likelihood has no density, or is of categories.
        """
        likelihood = self.choose(x)
        if isinstance(likelihood, Delta):
            raise ValueError(
                "an autoregressive decoder needs a likelihood with a density, got delta: take "
                "likelihood='normal'"
            )
        shape, width = tuple(x.shape[1:]), self._seen[0].features
        if likelihood.inputs(shape) != shape:
            raise ValueError(
                "an autoregressive decoder reads one number for each coordinate, and a category is "
                "read as one for each level: leave categories out, or take another pair, such as "
                "VAE"
            )
        self.net.build(shape, likelihood.params, width)
        bias = likelihood.bias(x)
        if bias is not None:
            self.net.set_bias(bias)

    def forward(self, z: Tensor | None = None) -> TorchDistribution:  # type: ignore[override]
        """Return p(x | z), batch shape (*batch), for latents (*batch, latent).

        Args:
            z: Latents, (*batch, latent); none where the decoder has no prior, batch shape ().

        Raises:
            RuntimeError: There are no parameters yet.
        """
        self.check_built()
        bias = self.net.bias
        given = bias.new_zeros(0) if z is None else self._seen[0].embed(z)
        support = self.likelihood(bias.detach()).support
        return Autoregressive(self, given, support, self.built_for)

    def conditionals(self, x: Tensor, given: Tensor) -> TorchDistribution:
        """Return each coordinate's distribution given those before it, batch shape (*batch).

        Args:
            x: Data, (*batch, *shape).
            given: Embedded latents, (*batch, features).
        """
        features = self.net(self.likelihood.read(x), given)
        wide = torch.promote_types(features.dtype, torch.float32)  # densities of bfloat16 are rough
        found: TorchDistribution = self.likelihood(features.to(wide))
        return found

    def draw(self, given: Tensor) -> Tensor:
        """Draw data (n, *shape), place by place, for embedded latents (n, features)."""
        like = self.net.bias
        x = like.new_zeros(len(given), *self.built_for)
        seen = self.likelihood.read(x).clone()
        flat, read = (v.view(len(x), -1) for v in (x, seen))
        report = _WATCH.get()
        for done, (place, features) in enumerate(self.net.walk(seen, given), 1):
            flat[:, place] = self.likelihood(features).sample().reshape(flat.shape)[:, place]
            read[:, place] = self.likelihood.read(x).reshape(flat.shape)[:, place]
            if report is not None:
                report(done, self.net.places)
        return x


class _Nothing:
    """What a decoder sees where there is no latent."""

    features = 0

    def embed(self, z: Tensor) -> Tensor:
        """Return what is given, of no width."""
        return z
