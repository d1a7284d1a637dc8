"""The deep Boltzmann machine, with a mean-field guide."""

from collections.abc import Iterable
from math import prod

import pyro
import torch
from torch import Tensor

from priory.distributions.harmonium import MEANS, TWICE, Harmonium
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Likelihood
from priory.lookup import positive
from priory.models.dbn import check_bits
from priory.models.deep_autoencoder import mean_of
from priory.models.helmholtz import Bits
from priory.models.pair import Pair
from priory.models.rbm import Down
from priory.nets import Decoder
from priory.priors.boltzmann import Machine


class DBM(Pair):
    r"""A deep Boltzmann machine of two layers of bits; its guide is mean field.

    .. math:: p(x, z_1, z_2) = \frac1Z \,
        e^{b \cdot x + c \cdot z_1 + d \cdot z_2 + x' W z_1 + z_2' V z_1}; \qquad
        q(z_1, z_2 \mid x) = \prod_j \mathrm{Ber}(\mu_j), \quad
        \mu_1 = \sigma(c + W' x + V' \mu_2), \quad \mu_2 = \sigma(d + V \mu_1)

    Data and upper bits are independent given the lower ones: the machine is a restricted one with
    the visible layer (x, z_2), whose chains, centring and annealing are those of an `RBM`. So
    p(z_1) has both summed out, and x and z_2 are given it. Train by `Contrast()`, in which z_2 has
    its mean-field values for data, and those of the chains for samples; the gradient is that of

    .. math:: E_q[\log p^*(x, z_1, z_2) - \log q(z_1, z_2 \mid x)] - \log Z \le \log p(x)

    at the fixed point. Its mean over particles is the bound, and one of more particles is higher.
    log Z is exact up to 20 bits z_1; else `evaluate` and `score` find it by annealing both ways,
    over (x, z_2), with z_1 summed out.

    With `pretrained` it starts from two machines that the stages `Greedy` train, as `layer` 1 of
    z_1 and two copies of x, and as `layer` 2 of z_1 and two copies of z_2. In the deep machine x
    and z_2 stand once, and z_1 has the mean of both biases, so that

    .. math:: \log p^*(z_1) = \tfrac12 \big(\log p_1^*(z_1) + \log p_2^*(z_1)\big)

    Salakhutdinov and Hinton, 2009, Deep Boltzmann machines; trained as a whole, centred, as in
    Montavon and Müller, 2012, Deep Boltzmann machines and the centering trick.

    Args:
        layers: Number of bits z_1, next to the data, and z_2.
        updates: Of each layer's mean field.
        likelihood: Of a datum: bernoulli; "auto" takes the one that fits the training data's
            values.
        centred: Whether the layers have offsets: the data's mean, a moving average of z_1, and 1/2
            for z_2, which changes the gradient alone.
        chains: Persistent chains.
        sweeps: Of Gibbs from the chains to a sample.
        temperatures: Of the chains; see `priory.priors.boltzmann.Machine`.
        pretrained: Whether it has the machines `rbm1` and `rbm2`, to be trained first.

    Raises:
        ValueError: There are not two layers, or a number isn't positive; at the first data, these
            are not bits.

    Example:
        >>> pair = DBM(layers=(5, 3))
        >>> pair.build((torch.rand(20, 1, 4, 4) < 0.3).float())
        >>> [tuple(field.shape) for field in pair.mean_field(torch.zeros(7, 1, 4, 4))]
        [(7, 5), (7, 3)]
    """

    name = "dbm"

    def __init__(
        self,
        layers: tuple[int, int] = (64, 32),
        updates: int = 10,
        likelihood: Likelihood | str = "auto",
        centred: bool = True,
        chains: int = 100,
        sweeps: int = 200,
        temperatures: int = 1,
        pretrained: bool = False,
    ) -> None:
        if len(layers) != 2:
            raise ValueError(f"layers must be two numbers of bits, got {tuple(layers)}")
        lower, upper = (positive("layers", width) for width in layers)
        super().__init__(latent=lower)
        self.layers, self.updates = (lower, upper), positive("updates", updates)
        self.centred, self.chains, self.sweeps = centred, chains, sweeps
        self.temperatures = temperatures
        self.machine = Machine(chains, sweeps, temperatures)
        self.decoder = Decoder(Down(self.machine, above=upper), Bits(lower), likelihood)
        self.pretrained = pretrained
        if pretrained:
            self.rbm1, self.rbm2 = Machine(chains, sweeps), Machine(chains, sweeps)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the weights, small and random, and b, the data's own."""
        check_bits(self.decoder.choose(x), "a deep Boltzmann machine")
        self.decoder.build(x)
        mean = x.mean(0).flatten()
        halves = mean.new_full((self.layers[1],), 0.5)
        self.machine.offset(torch.cat([mean, halves]) if self.centred else None)
        if self.pretrained:
            lower, upper = self.layers
            self.rbm1.build(prod(x.shape[1:]), lower, 2 * mean)
            self.rbm2.build(lower, upper, mean.new_full((lower,), 0.5))
            self.rbm1.start(mean.clamp(0.001, 0.999).logit())
            for own in (self.rbm1, self.rbm2):
                if not self.centred:
                    own.offset(None)

    def harmonium(self) -> Harmonium:
        """Return the machine of (x, z_2), flat, and z_1.

        Raises:
            RuntimeError: The pair is not built.
        """
        return self.machine.harmonium(MEANS)

    def machine_of(self, layer: int) -> Harmonium:
        """Return the machine that a layer starts from: 1 next to the data, or 2.

        Raises:
            ValueError: There is no such machine.
            RuntimeError: The pair is not built.
        """
        own = self._own(layer)
        return own.harmonium(TWICE, MEANS) if layer == 1 else own.harmonium(MEANS, TWICE)

    def pretraining(self, layer: int, x: Tensor) -> tuple[Machine, Harmonium, Tensor]:
        """Return the parameters of a layer's machine, the machine, and what it sees of data.

        Args:
            layer: 1, which sees the data twice, or 2, which sees what the first makes of them.
            x: Data, (*batch, *shape).

        Raises:
            ValueError: There is no such machine.
        """
        seen = 2 * self.flat(x)
        if layer > 1:
            with torch.no_grad():
                seen = self.machine_of(1).up(seen).sigmoid()
        return self._own(layer), self.machine_of(layer), seen

    @torch.no_grad()
    def settle(self, layer: int, rows: Iterable[Tensor]) -> None:
        """Start the second machine at what the first one gives, or the deep one from both.

        Args:
            layer: 1 or 2.
            rows: Batches of the training rows.
        """
        if layer == 1:
            mean = mean_of(self.pretraining(2, x)[2] for x in rows)
            self.rbm2.start(mean.clamp(0.001, 0.999).logit())
            self.rbm2.offset(mean if self.centred else None)
            return
        first, second = self.machine_of(1), self.machine_of(2)
        weight = torch.cat([first.weight, second.weight.mT])
        visible = torch.cat([first.visible, second.hidden])
        self.machine.take(Harmonium(weight, visible, (first.hidden + second.visible) / 2))
        means = torch.cat([self.mean_field(x)[0].sigmoid() for x in rows])
        if self.centred:
            self.machine.follow(means.mean(0), 0.0)
        chains = self.machine.chains
        numbers = torch.arange(chains.shape[1], device=chains.device) % len(means)
        chains.copy_(torch.bernoulli(means[numbers]).expand_as(chains))

    def mean_field(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the log-odds of z_1 and of z_2 in q(z_1, z_2 | x), each (*batch, layer).

        Each update of a layer given the other raises the bound, or leaves it.

        Args:
            x: Data, (*batch, *shape).
        """
        machine, upper = self.harmonium(), self.layers[1]
        below, across = machine.weight[:-upper], machine.weight[-upper:]
        from_data = machine.hidden + self.flat(x) @ below
        top = machine.visible[-upper:].expand(*from_data.shape[:-1], upper)
        for _ in range(self.updates):
            lower = from_data + top.sigmoid() @ across
            top = machine.visible[-upper:] + lower.sigmoid() @ across.mT
        return from_data + top.sigmoid() @ across, top

    @torch.no_grad()
    def visible(self, x: Tensor) -> Tensor:
        """Return the machine's visible layer for data: they and the mean field of z_2, flat."""
        return torch.cat([self.flat(x), self.mean_field(x)[1].sigmoid()], -1)

    def model(self, x: Tensor) -> None:
        with self.batch(x):
            machine = self.harmonium()
            z = pyro.sample("z1", self.machine.distribution(machine))
            upper = machine.down(z)[..., -self.layers[1] :]
            pyro.sample("z2", IndependentBernoulli(upper, 1))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with self.batch(x):
            lower, upper = self.mean_field(x)
            pyro.sample("z1", IndependentBernoulli(lower, 1))
            pyro.sample("z2", IndependentBernoulli(upper, 1))

    def _own(self, layer: int) -> Machine:
        """Return the parameters of the machine that a layer starts from."""
        if not self.pretrained:
            raise ValueError(
                "the deep Boltzmann machine has no machines to start from: take pretrained=True"
            )
        if layer > 2:
            raise ValueError(
                f"the deep Boltzmann machine starts from 2 machines, got layer {layer}"
            )
        return self.rbm1 if layer == 1 else self.rbm2
