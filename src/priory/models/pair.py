"""What every pair of ours is: two Pyro programs over parts that are built from the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.likelihoods import Likelihood
from priory.likelihoods.values import is_table
from priory.lookup import positive
from priory.models.class_prior import ClassPrior
from priory.nets import Decoder, Encoder
from priory.part import Shape
from priory.posteriors import Posterior
from priory.priors import Prior


class Pair(nn.Module, ABC):
    """A model and a guide with parts in common, as attributes in the order in which they are built.

    A pair of one's own writes a constructor that makes the parts (`Prior`, `Encoder`, `Decoder`,
    `ClassPrior`), and the two programs, each opening with `with self.batch(x):`. Other parts are
    built by a `make` of its own. Any two Pyro programs are a pair as well, without this class.

    Args:
        latent: Number of latent coordinates.

    Attributes:
        shape: The shape of a datum that it is built for, None before.

    Raises:
        ValueError: The latent isn't a positive integer.

    Example:
        >>> from priory.models import VAE
        >>> pair = VAE(prior="normal", latent=4)
        >>> pair.build(torch.zeros(10, 1, 8, 8))
        >>> pair.encoder(torch.zeros(3, 1, 8, 8)).event_shape
        torch.Size([4])
    """

    name: ClassVar[str]

    def __init__(self, latent: int = 1) -> None:
        super().__init__()
        self.latent = positive("latent", latent)
        self.shape: Shape | None = None

    @abstractmethod
    def model(self, *args: Any, **columns: Any) -> None:
        """Declare the joint distribution p(x, z) of a batch of data (batch, *shape).

        Its arguments are named after the columns of the data that it reads: `x`, `y`, `index`.
        """

    @abstractmethod
    def guide(self, *args: Any, **columns: Any) -> None:
        """Declare the recognition distribution q(z | x) of a batch of data (batch, *shape).

        Its arguments are named as the model's.
        """

    @property
    def likelihood(self) -> Likelihood | str:
        """The decoder's likelihood; "auto" before it is chosen from the data."""
        for part in self.children():
            if isinstance(part, Decoder):
                return part.likelihood
        raise AttributeError(f"{type(self).__name__} has no decoder, and so no likelihood")

    @property
    def head(self) -> Likelihood:
        """The likelihood, once it is built."""
        found = self.likelihood
        assert isinstance(found, Likelihood)  # noqa: S101
        return found

    def build(self, x: Tensor, y: Tensor | None = None) -> None:
        """Make the parameters for data like `x`; a second call only looks at the data.

        Args:
            x: Training data, (n, *shape); new parameters take their device and dtype.
            y: Labels of all training rows, (n,), for a pair with a distribution of them.

        Raises:
            ValueError: The data don't suit the pair (their type, values, labels), a net's size
                doesn't fit, or the pair is built for another shape, precision or device.
        """
        self._check(x)
        if self.shape is None:
            self.make(x, y)
            self.to(device=x.device, dtype=x.dtype)
            self.shape = tuple(x.shape[1:])

    def make(self, x: Tensor, y: Tensor | None) -> None:
        """Make the parts' parameters, in the order in which the constructor names the parts.

        Args:
            x: Training data, (n, *shape).
            y: Their labels, (n,), if there are any.
        """
        parts = [*self.children()]
        likelihood = next(part.choose(x) for part in parts if isinstance(part, Decoder))
        encoder = next((part for part in parts if type(part) is Encoder), None)
        for part in parts:
            if isinstance(part, ClassPrior):
                part.build(y)
            elif isinstance(part, Prior):
                build_prior(part, self.latent, x, likelihood, encoder)
            elif isinstance(part, Encoder):
                part.build(x, self.latent, likelihood)
            elif isinstance(part, Decoder):
                part.build(x)

    def flat(self, x: Tensor) -> Tensor:
        """Return data (*batch, *shape) as vectors, (*batch, d).

        Raises:
            RuntimeError: The pair is not built.
        """
        if self.shape is None:
            raise RuntimeError(f"{type(self).__name__} has no parameters yet: call build first")
        return x.reshape(*x.shape[: x.dim() - len(self.shape)], -1)

    def shaped(self, x: Tensor) -> Tensor:
        """Return vectors (*batch, d) as data, (*batch, *shape)."""
        return x.reshape(*x.shape[:-1], *(self.shape or ()))

    def register(self, x: Tensor) -> None:
        """Build the pair where it is not, and register its parameters in Pyro's store.

        Args:
            x: Data, (*batch, *shape).
        """
        self.build(x)
        pyro.module(type(self).__name__.lower(), self)

    def batch(self, x: Tensor) -> Any:
        """Return the plate `data` of a batch, in which the sites of both programs stand.

        Args:
            x: Data, (*batch, *shape).
        """
        self.register(x)
        return pyro.plate("data", x.shape[-1 - len(self.shape or ())], dim=-1)

    def _check(self, x: Tensor) -> None:
        """Raise a ValueError unless the pair is built for data like `x`, or can be."""
        if not x.is_floating_point():
            raise ValueError(f"the pair expects real numbers, got x of {x.dtype}: pass x.float()")
        if not x.dim():
            raise ValueError("the pair expects rows of data, got a single number")
        if self.shape is None:
            if not len(x):
                raise ValueError("the pair is built from training data, got x without a row")
            return
        event = len(self.shape)
        if x.shape[x.dim() - event :] != self.shape:
            raise ValueError(
                f"the pair is built for data of shape {self.shape}, got {tuple(x.shape[1:])}"
            )
        if x.dim() == event:
            raise ValueError(
                f"the pair expects a batch of data of shape {self.shape}, got one datum: pass "
                "x[None]"
            )
        own = next(self.parameters(), None)
        if own is not None and own.device != x.device:
            raise ValueError(f"the pair is on {own.device}, got x on {x.device}: pass x.to(...)")
        cast = torch.is_autocast_enabled(x.device.type)
        if own is not None and own.dtype != x.dtype and not cast:
            raise ValueError(
                f"the pair is built for data of {own.dtype}, got x of {x.dtype}: pass "
                f"x.to({own.dtype})"
            )


class Recogniser(Protocol):
    """From a datum alone to q(z | x), as an `Encoder` is."""

    def forward(self, x: Tensor) -> Any:
        """Return q(z | x) for data (*batch, *shape)."""

    def of_scaled(self, x: Tensor) -> TorchDistribution:
        """Return q(z | x) for data in the likelihood's units."""


def build_prior(
    prior: Prior, latent: int, x: Tensor, likelihood: Likelihood, encoder: Recogniser | None
) -> None:
    """Make a prior's parameters, in the likelihood's units where the data are a table.

    Args:
        prior: Of the latent.
        latent: Number of latent coordinates.
        x: Training data, (n, *shape).
        likelihood: Built for them.
        encoder: Of that latent from a datum alone, if there is one.
    """
    table = is_table(x)
    encode = None if encoder is None else encoder.of_scaled if table else encoder.forward
    prior.data_units = (likelihood,) if table else ()
    prior.build(latent, likelihood.scaled(x) if table else x, encode)


class Tractable(Pair):
    """A pair whose likelihood is exact, so that `EM` can train it as well as any bound.

    Its guide is the exact posterior: the ELBO and the importance-weighted bounds are log p(x), and
    the importance weights have no variance.
    """

    @abstractmethod
    def log_likelihood(self, *args: Any, **columns: Any) -> Tensor:
        """Return log p of each datum of a batch (*batch, *shape), in nats, (*batch).

        Its arguments are named as the model's.
        """

    @abstractmethod
    def maximise(self, *args: Any, **columns: Any) -> None:
        """Move the parameters to the closed-form optimum on a batch, or by one sweep of EM.

        Its arguments are named as the model's.
        """


class Amortised(Pair):
    """A pair whose part `encoder` gives q(z | .), by a family that is an option."""

    encoder: Encoder

    @property
    def posterior(self) -> Posterior | str:
        """The family of q(z | .); "auto" where it is the one of the prior's support."""
        return self.encoder.posterior


class Shared(Pair):
    """A pair that has, in training mode, latents which all training rows share.

    They stand before the plate of the batch, and enter a bound by their share 1/N.

    Attributes:
        rows: N, the number of training rows, None before it is known.
    """

    rows: int | None

    def of_rows(self, x: Tensor) -> Any:
        """Return the plate `data` of a batch, in training as one of N rows.

        Args:
            x: Data, (*batch, *shape).

        Raises:
            ValueError: There are more rows than N, in training mode.
        """
        if not self.training or self.rows is None:
            return self.batch(x)
        count = x.shape[-1 - len(self.shape or ())]
        if count > self.rows:
            raise ValueError(
                f"the pair shares its inducing values among {self.rows} training rows, got a batch "
                f"of {count}: give their number, rows=, or call eval() to judge new rows"
            )
        return pyro.plate("data", self.rows, subsample=torch.arange(count, device=x.device), dim=-1)


class Labelled(Pair):
    """A pair with a distribution of labels, as its part `labels`."""

    labels: ClassPrior

    @property
    def classes(self) -> int | None:
        """Number of labels, None before it is known."""
        return self.labels.classes
