"""The restricted Boltzmann machine, of binary, grey or real data."""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.harmonium import Harmonium, Units
from priory.likelihoods import Bernoulli, ContinuousBernoulli, Likelihood, Normal
from priory.lookup import positive
from priory.models.helmholtz import Bits
from priory.models.pair import Pair
from priory.nets import Decoder, Net
from priory.part import Shape
from priory.priors.boltzmann import Machine


class Down(Net):
    """From bits to the likelihood's fields, b + W h, by a machine's own weights.

    Args:
        machine: Whose bits they are.
        above: Fields of the machine's visible layer that are another layer's, after the data's.
    """

    def __init__(self, machine: Machine, above: int = 0) -> None:
        super().__init__()
        self.above = above
        # In a tuple a module is no submodule, so its parameters are not listed twice.
        self._machine = (machine,)

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the machine's parameters.

        Raises:
            ValueError: The likelihood has several parameters for a coordinate.
        """
        if outputs[0] != 1:
            raise ValueError(
                f"a Boltzmann machine has one field for each coordinate of a datum, and the "
                f"likelihood has {outputs[0]}: take scale='learned', or a number"
            )
        visible = prod(outputs) + self.above
        centre = torch.zeros(visible if self.above else outputs[1:])
        self._machine[0].build(visible, prod(inputs), centre)

    def set_bias(self, value: Tensor) -> None:
        """Start at independent coordinates of these fields, (1, *shape)."""
        self._machine[0].start(torch.cat([value.flatten(), value.new_zeros(self.above)]))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map bits (n, hidden) to fields (n, visible)."""
        fields = self._machine[0].fields(x)
        return fields[..., : fields.shape[-1] - self.above]


class RBM(Pair):
    r"""The restricted Boltzmann machine; its guide is the exact posterior.

    .. math:: p(z) = \frac1Z \, e^{c \cdot z + A(b + W z)}, \quad x \sim p(x \mid b + W z);
        \qquad z_j \sim \mathrm{Ber}(\sigma(c_j + T(x) \cdot W_j))

    A is the likelihood's log-normaliser and T its statistic: for bits :math:`A(f) = \sum_i
    \log(1 + e^{f_i})` and T(x) = x, for real data :math:`A(f) = \sum_i f_i^2 / 2 s^2` and
    :math:`T(x) = x / s^2`. Then

    .. math:: \log p(x, z) - \log q(z \mid x) = -F(x) - \log Z

    for any z, so that every bound is log p(x), without variance. log Z is exact up to 20 bits;
    else `evaluate` and `score` find it by annealing both ways. Train by `Contrast()`.

    Smolensky, 1986, Information processing in dynamical systems: foundations of harmony theory;
    Hinton, 2002, Training products of experts by minimizing contrastive divergence.

    Args:
        latent: Number of hidden bits.
        likelihood: Of a datum: bernoulli, continuous-bernoulli or normal; "auto" takes the one that
            fits the training data's values.
        centred: Whether the layers' offsets are the data's mean and a moving average, which changes
            the gradient alone.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains; see `priory.priors.boltzmann.Machine`.

    Raises:
        ValueError: A number isn't positive; at the first data, the likelihood is another.

    Example:
        >>> pair = RBM(latent=5)
        >>> pair.build((torch.rand(20, 1, 4, 4) < 0.3).float())
        >>> pair.harmonium().log_visible(torch.zeros(3, 1, 4, 4)).shape
        torch.Size([3])
    """

    name = "rbm"

    def __init__(
        self,
        latent: int = 64,
        likelihood: Likelihood | str = "auto",
        centred: bool = True,
        chains: int = 100,
        sweeps: int = 200,
        temperatures: int = 1,
    ) -> None:
        super().__init__(latent)
        self.centred = centred
        self.chains, self.sweeps = positive("chains", chains), positive("sweeps", sweeps)
        self.temperatures = temperatures
        self.machine = Machine(chains, sweeps, temperatures)
        self.decoder = Decoder(Down(self.machine), Bits(self.latent), likelihood)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make W, small and random, and b, the data's own."""
        likelihood = self.decoder.choose(x)
        if not isinstance(likelihood, Bernoulli | ContinuousBernoulli | Normal):
            raise ValueError(
                f"a restricted Boltzmann machine needs the likelihood bernoulli, "
                f"continuous-bernoulli or normal, got {likelihood.name}"
            )
        self.decoder.build(x)
        self.machine.offset(x.mean(0) if self.centred else None)

    def harmonium(self) -> Harmonium:
        """Return the machine of data and bits.

        Raises:
            RuntimeError: The pair is not built.
        """
        self.machine.check_built()
        kind = type(self.decoder.likelihood)
        return self.machine.harmonium(
            Units(self._given, self._statistic, self._cumulant, binary=kind is Bernoulli)
        )

    def visible(self, x: Tensor) -> Tensor:
        """Return the machine's visible layer for data: the data."""
        return x

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            z = pyro.sample("z", self.machine.distribution(self.harmonium()))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            pyro.sample("z", dist.Bernoulli(logits=self.harmonium().up(x)).to_event(1))

    def _given(self, field: Tensor) -> TorchDistribution:
        """Return p(x | f) for fields (*batch, visible)."""
        _, outputs = self.decoder.net.built_for
        given: TorchDistribution = self.decoder.likelihood(field.unflatten(-1, outputs))
        return given

    def _statistic(self, x: Tensor) -> Tensor:
        """Return T(x), (*batch, visible)."""
        _, outputs = self.decoder.net.built_for
        flat = self.decoder.likelihood.scaled(x).flatten(x.dim() - len(outputs) + 1)
        return flat if self._variance is None else flat / self._variance

    def _cumulant(self, field: Tensor) -> Tensor:
        """Return A(f), (*batch), up to a constant."""
        if self._variance is not None:
            return (field.square() / (2 * self._variance)).sum(-1)
        _, outputs = self.decoder.net.built_for
        found: Tensor = -self._given(field).log_prob(field.new_zeros(outputs[1:]))
        return found

    @property
    def _variance(self) -> Tensor | None:
        """The variance of real data given the bits, in the units of the fields, (visible,)."""
        likelihood = self.decoder.likelihood
        if not isinstance(likelihood, Normal):
            return None
        zeros = torch.zeros_like(self.machine.visible)
        log_scale = self._given(zeros).log_scale - likelihood.unit.log()
        return (2 * log_scale).exp().expand(likelihood.shape).flatten()
