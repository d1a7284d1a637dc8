"""Runs of pairs that are two callables come back: tuples, closures, autoguides, bare parameters."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, config_enumerate
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from torch import nn

from priory import fit, load
from priory.data import Data
from priory.inference import ELBO

DATA = Data.from_arrays(torch.linspace(-1.0, 3.0, 120).reshape(60, 2))


def closing(norm=False):
    """Return model and guide over nets of their own, and the nets."""
    encoder, decoder = nn.Linear(2, 2), nn.Linear(1, 2)
    between = nn.BatchNorm1d(2) if norm else nn.Identity()

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        pyro.module("between", between)
        with pyro.plate("data", len(x)):
            loc, scale = encoder(between(x)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return (model, guide), nn.ModuleList([encoder, decoder, between])


def same(run, again):
    left, right = run.sample(5, seed=3), again.sample(5, seed=3)
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("handler", [lambda f: f, poutine.scale(scale=1.0), config_enumerate])
def test_a_tuple_of_closures_is_loaded_into_its_own_nets(tmp_path, handler, norm):
    (model, guide), nets = closing(norm)
    nets.train()
    run = fit((model, handler(guide)), ELBO(), DATA, steps=8, batch_size=16, lr=0.05)
    run.save(tmp_path)
    (model, guide), others = closing(norm)
    again = load(tmp_path, pair=(model, handler(guide)), data=DATA)
    for name, value in nets.state_dict().items():
        assert torch.equal(value, others.state_dict()[name]), name
    assert same(run, again)
    assert others.training  # as it was


def test_running_means_of_a_closure_are_used_where_a_run_is_judged():
    (model, guide), nets = closing(norm=True)
    nets[2].running_mean.fill_(5.0)
    modes = []

    def watched(x):
        modes.append(nets[2].training)
        guide(x)

    fit((model, watched), ELBO(), DATA, steps=3, batch_size=16)
    assert True in modes
    assert not modes[-1]  # the validation bound comes last
    assert nets[2].training


def test_bare_parameters_are_loaded(tmp_path):
    def model(x):
        mean = pyro.param("mean", torch.zeros(2))
        sd = pyro.param("sd", torch.ones(2), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, sd).to_event(1), obs=x)

    def guide(x):
        pass

    run = fit((model, guide), ELBO(), DATA, steps=20, batch_size=16, lr=0.05)
    run.save(tmp_path)
    again = load(tmp_path, pair=(model, guide), data=DATA)
    assert run.store["params"]["mean"].abs().sum() > 0
    for name, value in run.store["params"].items():
        assert torch.equal(value, again.store["params"][name])
    assert same(run, again)


def regression(x, **others):
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    sd = pyro.sample("sd", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, sd).to_event(1), obs=x)


def parts(model):
    both = AutoGuideList(model)
    both.append(AutoDelta(poutine.block(model, expose=["mean"])))
    both.append(AutoDiagonalNormal(poutine.block(model, expose=["sd"])))
    return both


GUIDES = {
    "normal": AutoNormal,
    "delta": AutoDelta,
    "diagonal": AutoDiagonalNormal,
    "full": AutoMultivariateNormal,
    "low rank": lambda m: AutoLowRankMultivariateNormal(m, rank=1),
    "flow": lambda m: AutoIAFNormal(m, hidden_dim=[5]),
    "list": parts,
    "scaled": lambda m: poutine.scale(AutoNormal(m), scale=1.0),
}


@pytest.mark.filterwarnings("ignore:the objective of .* cannot be rebuilt")  # Pyro's ELBO
@pytest.mark.parametrize("primed", [False, True])
@pytest.mark.parametrize("name", GUIDES)
def test_an_autoguide_is_loaded_into_a_new_one(tmp_path, name, primed):
    guide = GUIDES[name](regression)
    run = fit((regression, guide), Trace_ELBO(), DATA, steps=4, batch_size=16, lr=0.1)
    run.save(tmp_path)
    new = GUIDES[name](regression)
    if primed:
        with pyro.get_param_store().scope():
            new(DATA.train.x)
    again = load(tmp_path, pair=(regression, new), data=DATA)

    def drawn(run, guide):
        with run.scope(), torch.random.fork_rng():
            torch.manual_seed(0)
            return guide(DATA.train.x[:16])

    left, right = drawn(run, guide), drawn(again, new)
    assert left.keys() == right.keys() == {"mean", "sd"}
    for site in left:
        assert torch.equal(left[site], right[site]), site
    assert left["mean"].shape == (2,)


def test_another_guides_weights_are_refused(tmp_path):
    fit((regression, AutoNormal(regression)), ELBO(), DATA, steps=1, batch_size=16).save(tmp_path)
    with pytest.raises(ValueError, match="the weights do not fit"):
        load(tmp_path, pair=(regression, AutoMultivariateNormal(regression)), data=DATA)
