"""Whole ways of small chains: every one of bits, and a grid of them for numbers."""

import itertools

import pytest
import torch
from torch import nn

from priory.inference import Phases
from priory.nets import TimedNet


def states(n):
    """All states of n bits, (2^n, n)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))


def stirred(pair, x):
    """A pair that is built, with its layers drawn at random, in evaluation mode."""
    pair.build(x)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.normal_(0, 0.7)
    return pair.eval()


def ways(n, steps):
    """All ways of chains of n bits, (ways, steps, n)."""
    every = itertools.product(states(n).unbind(), repeat=steps)
    return torch.stack([torch.stack(way) for way in every])


def matrix(pair, t, n):
    """p(z_{t-1} | z_t) of all states, (from, to)."""
    p = pair.transition(states(n), torch.tensor(t))
    return torch.stack([p.log_prob(state) for state in states(n)], 1).exp()


def scores(pair, every, x):
    """log p(x, z) and log q(z | x) of ways (ways, T, n), as the programs score them, (ways,)."""
    awake = Phases(pair.model, pair.guide, (x.expand(len(every), -1),), latents={"z": every}).awake
    return awake.log_p().squeeze(0), awake.log_q().squeeze(0)


class Leaning(TimedNet):
    """Means and log standard deviations that are linear in the state; a test's own."""

    name = "leaning"

    def make(self, shape, params, given):
        self.weight = nn.Parameter(torch.tensor([[0.6, 0.1], [-0.2, 0.2]]))

    def apply_flat(self, z, t, given):
        mean, log_scale = self.weight[0, 0] * z + self.weight[0, 1] * t.unsqueeze(-1), 0 * z
        return torch.stack([mean, log_scale + self.weight[1, 0] + self.weight[1, 1] * z], 1)


def line(n=241, most=9.0):
    """Points of the line, and how much of it each stands for."""
    return torch.linspace(-most, most, n), 2 * most / (n - 1)


def exact_bound(pair, x):
    """The ELBO of one number by quadrature over both states."""
    z, d = line()
    both = torch.cartesian_prod(z, z).unsqueeze(-1)
    log_p, log_q = scores(pair, both, x)
    assert (log_q.exp().sum() * d * d).detach() == pytest.approx(1.0, abs=1e-5)
    return (log_q.exp() * (log_p - log_q)).sum() * d * d
