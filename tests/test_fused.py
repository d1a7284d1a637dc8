"""Fused steps of an optimiser: the numbers of torch's plain steps, in whatever order memory is."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory.inference import ELBO, SVI
from priory.inference.engine.optim import JointOptim

pytestmark = pytest.mark.usefixtures("double")


class Turned(nn.Module):
    """A net whose gradients by `torch.autograd.grad` are transposed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))

    def model(self, x):
        pyro.module("turned", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = torch.einsum("bi,io->bo", z, self.weight)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ self.weight.detach().T, 1.0).to_event(1))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_a_traced_step_moves_the_weights_that_an_eager_step_moves(name):
    found = []
    for mode, fused in (("off", False), ("off", True), ("trace", False), ("trace", True)):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = Turned()
        optim = partial(getattr(torch.optim, name), lr=0.1, fused=fused)
        svi = SVI(pair.model, pair.guide, optim, ELBO(), compile=mode)
        for _ in range(4):
            svi.step(torch.randn(8, 3))
        found.append(pair.weight.detach())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-9)


LAYOUTS = {
    "transposed": lambda: torch.randn(3, 5).t(),
    "permuted": lambda: torch.randn(2, 5, 3).permute(2, 1, 0),
    "strided": lambda: torch.randn(5, 6)[:, ::2],
    "expanded row": lambda: torch.randn(5, 3),
}


@pytest.mark.parametrize("options", [{}, {"fused": True}])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_in_any_order_in_memory_move_as_contiguous_ones(layout, options):
    start = LAYOUTS[layout]()
    own, plain = nn.Parameter(start), nn.Parameter(start.clone().contiguous())
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1, **options})
    peer = torch.optim.Adam([plain], lr=0.1, fused=False)
    for step in range(4):
        gradient = torch.randn(start.shape)
        if layout == "expanded row" and step % 2:
            gradient = gradient[:1].expand(start.shape)
        own.grad, plain.grad = gradient, gradient.contiguous()
        optim([own])
        peer.step()
        torch.testing.assert_close(own, plain, rtol=1e-12, atol=1e-12)
