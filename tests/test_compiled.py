"""Traced and compiled steps: the same gradients as eager ones, and a fall-back with a reason."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

from priory.divergences import mmd
from priory.inference import ELBO, IWAE, SVI, Adversarial, Linear, Match, Reconstruction
from priory.models import VAE
from priory.nets import MLP

SGD = partial(torch.optim.SGD, lr=0.1)
OBJECTIVES = {
    "elbo": ELBO,
    "analytic": partial(ELBO, beta=0.5, analytic_kl=True),
    "iwae": partial(IWAE, 3),
    "wae": lambda: Reconstruction() + 2 * Match(mmd, "z"),
    "aae": lambda: Reconstruction() + Adversarial(MLP((4,)), "z"),
}


pytestmark = pytest.mark.usefixtures("double")


def train(compile, prior, objective, steps=4):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    x = torch.rand(9, 6).round()
    pair = VAE(prior, MLP((5,)), MLP((5,)), "bernoulli", 2)
    pair.build(x)
    svi = SVI(pair.model, pair.guide, SGD, OBJECTIVES[objective](), compile=compile)
    losses = [svi.step(x=x) for _ in range(steps)]
    return torch.stack(losses), pair, svi


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp", "stick-breaking"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_traced_steps_are_the_eager_ones(prior, objective):
    if prior in ("mixture", "vamp") and objective in ("wae", "aae"):
        objective = "elbo"  # a mixture's dreams carry no gradient to its parameters
    eager, first, _ = train("off", prior, objective)
    traced, second, svi = train("trace", prior, objective)
    assert svi.compiler.traced is not None
    torch.testing.assert_close(traced, eager, atol=1e-10, rtol=0)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_compiled_steps_learn_what_eager_ones_learn():
    losses = {}
    for mode in ("off", "inductor"):
        found, _, svi = train(mode, "normal", "elbo", steps=300)
        losses[mode] = found[-100:].mean(), found[-100:].std() / 10
    assert svi.compiler.traced is not None
    gap = losses["off"][0] - losses["inductor"][0]
    assert abs(gap) < 4 * (losses["off"][1] ** 2 + losses["inductor"][1] ** 2) ** 0.5


def test_buffers_go_on_changing():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def model(self, x):
            pyro.module("normed", self)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.norm(x), 1.0).to_event(1), obs=x)

        def guide(self):
            pass

    pair = Normed()
    svi = SVI(pair.model, pair.guide, SGD, ELBO(), compile="trace")
    for _ in range(2):
        svi.step(torch.rand(9, 6))
    before = pair.norm.running_mean.clone()
    svi.step(torch.rand(9, 6) + 5)
    assert (pair.norm.running_mean > before).all()


def test_other_batch_size_runs_eager():
    _, _, svi = train("trace", "normal", "elbo")
    assert svi.step(x=torch.rand(4, 6).round()).shape == ()


@pytest.mark.parametrize("case", ["values", "schedule"])
def test_what_cannot_be_traced_runs_eager_with_one_warning(case):
    beta = Linear(0.0, 1.0, 10) if case == "schedule" else 1.0

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            if case == "values" and z.sum().item() > 1e9:
                raise RuntimeError
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(())), 1.0))

    svi = SVI(model, guide, SGD, ELBO(beta), compile="trace")
    svi.step(torch.zeros(3))
    with pytest.warns(UserWarning, match="runs eager"):
        svi.step(torch.zeros(3))
    svi.step(torch.zeros(3))


def test_loss_with_gradients_of_its_own_runs_eager_and_says_so():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("m", torch.zeros(())), 1.0), obs=x)

    svi = SVI(model, lambda x: None, SGD, pyro.infer.Trace_ELBO(), compile="trace")
    svi.step(torch.zeros(3))
    with pytest.warns(UserWarning, match="computes its gradients by itself"):
        svi.step(torch.zeros(3))
