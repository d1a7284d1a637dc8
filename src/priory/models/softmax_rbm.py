"""The restricted Boltzmann machine of categories."""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.categorical import OneHot
from priory.distributions.categories import IndependentCategorical
from priory.distributions.harmonium import Harmonium, Units
from priory.lookup import positive
from priory.models.pair import Pair
from priory.priors.boltzmann import Machine


class SoftmaxRBM(Pair):
    r"""A restricted Boltzmann machine of data that are each one of K categories.

    .. math:: p(z) = \frac1Z \, e^{c \cdot z} \prod_i \sum_k e^{b_{ik} + W_{ik} \cdot z}, \quad
        p(x_i = k \mid z) \propto e^{b_{ik} + W_{ik} \cdot z}; \qquad
        q(z_j = 1 \mid x) = \sigma\Big(c_j + \sum_i W_{i x_i j}\Big)

    The guide is the exact posterior, so that every bound is log p(x), as in an `RBM`, and log Z,
    the chains and the centred layers are those of one. Data are numbers 0 to K - 1, without an
    order. They start as independent columns with the training rows' shares, each category counted
    once more. Train by `Contrast()`. A category beyond the K has probability 0.

    Salakhutdinov, Mnih and Hinton, 2007, Restricted Boltzmann machines for collaborative filtering.

    Args:
        latent: Number of hidden bits.
        categories: K; None takes those up to the largest number of the training data.
        centred: Whether the layers' offsets are the data's shares and a moving average, which
            changes the gradient alone.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains; see `priory.priors.boltzmann.Machine`.

    Raises:
        ValueError: A number isn't positive; at the first data, these are not such numbers.

    Example:
        >>> pair = SoftmaxRBM(latent=5)
        >>> pair.build(torch.tensor([[0.0, 2.0], [1.0, 1.0], [0.0, 0.0]]))
        >>> pair.harmonium().weight.shape  # two columns of three categories each
        torch.Size([6, 5])
    """

    name = "softmax-rbm"

    def __init__(
        self,
        latent: int = 64,
        categories: int | None = None,
        centred: bool = True,
        chains: int = 100,
        sweeps: int = 200,
        temperatures: int = 1,
    ) -> None:
        super().__init__(latent)
        self.categories = None if categories is None else positive("categories", categories)
        self.centred, self.chains, self.sweeps = centred, chains, sweeps
        self.temperatures = temperatures
        self.machine = Machine(chains, sweeps, temperatures)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make W, small and random, and b, the data's own."""
        known = "up" if self.categories is None else f"to {self.categories - 1}"
        if (x < 0).any() or (x != x.round()).any() or x.max() >= (self.categories or torch.inf):
            raise ValueError(
                f"a softmax machine is of categories, integers from 0 {known}, got values in "
                f"[{x.min().item():.4g}, {x.max().item():.4g}]: number the categories from 0, or "
                "take an RBM of bits or real data"
            )
        if self.categories is None:
            self.categories = max(2, int(x.max()) + 1)
        codes = self._codes(x.flatten(1))
        share = (codes.sum(0) + 1) / (len(x) + self.categories)
        self.machine.build(prod(x.shape[1:]) * self.categories, self.latent, codes.mean(0))
        self.machine.start(share.log().flatten())
        self.machine.offset(codes.mean(0) if self.centred else None)

    def harmonium(self) -> Harmonium:
        """Return the machine of one-hot codes and bits.

        Raises:
            RuntimeError: The pair is not built.
        """
        self.machine.check_built()
        return self.machine.harmonium(Units(self._given, _fields, self._cumulant))

    def visible(self, x: Tensor) -> Tensor:
        """Return the machine's visible layer for data: their one-hot codes, (*batch, d, K)."""
        return self._codes(self.flat(x))

    def given(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z) for bits (*batch, latent).

        Raises:
            RuntimeError: The pair is not built.
        """
        fields = self.harmonium().down(z)
        shape = self.shape or ()
        logits = fields.unflatten(-1, (*shape, self._levels))
        return IndependentCategorical(logits, len(shape), validate_args=False)  # others have mass 0

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.machine.distribution(self.harmonium()))
            pyro.sample("x", self.given(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            up = self.harmonium().up(self.visible(x))
            pyro.sample("z", dist.Bernoulli(logits=up).to_event(1))

    @property
    def _levels(self) -> int:
        assert self.categories is not None  # noqa: S101
        return self.categories

    def _codes(self, x: Tensor) -> Tensor:
        """Return numbers (*batch, d) as one-hot codes, (*batch, d, K)."""
        numbers = torch.arange(self._levels, dtype=x.dtype, device=x.device)
        return (x.unsqueeze(-1) == numbers).to(x.dtype)

    def _given(self, field: Tensor) -> TorchDistribution:
        logits = field.unflatten(-1, (-1, self._levels))
        return OneHot(logits=logits, validate_args=False).to_event(1)

    def _cumulant(self, field: Tensor) -> Tensor:
        return field.unflatten(-1, (-1, self._levels)).logsumexp(-1).sum(-1)


def _fields(codes: Tensor) -> Tensor:
    return codes.flatten(-2)
