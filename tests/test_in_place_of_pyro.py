"""Priory's SVI in the place of Pyro's: the same parameters, optimisers, settings and losses."""

import copy
import functools
import math

import pyro
import pyro.distributions as dist
import pyro.infer
import pyro.optim
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceTailAdaptive_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from pyro.optim.optim import is_scheduler
from torch import nn
from torch.distributions import constraints

from priory.inference import ELBO, SVI

X = torch.tensor([[0.3, -1.2], [0.8, 0.4], [-0.5, 2.0], [1.1, 0.9]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def store():
    with pyro.get_param_store().scope():
        torch.manual_seed(0)
        yield


def model(x):
    mean = pyro.sample("mean", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    sd = pyro.sample("sd", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, sd).to_event(1), obs=x)


def guide(x):
    loc = pyro.param("loc", x.new_zeros(2))
    width = pyro.param("width", x.new_full((2,), 0.5), constraint=constraints.positive)
    pyro.sample("mean", dist.Normal(loc, width).to_event(1))
    shift = pyro.param("shift", x.new_zeros(()))
    pyro.sample("sd", dist.LogNormal(shift, 0.1))


def parts(guide):
    both = AutoGuideList(guide)
    both.append(AutoDelta(pyro.poutine.block(guide, expose=["mean"])))
    both.append(AutoDiagonalNormal(pyro.poutine.block(guide, expose=["sd"])))
    return both


class Amortised(PyroModule):
    """An autoguide inside a module that is registered too: every tensor has two names."""

    def __init__(self):
        super().__init__()
        self.inner = AutoNormal(model)

    def forward(self, x):
        pyro.module("inner", self.inner)
        return self.inner(x)


GUIDES = {
    "normal": lambda: AutoNormal(model),
    "delta": lambda: AutoDelta(model),
    "full": lambda: AutoMultivariateNormal(model),
    "low rank": lambda: AutoLowRankMultivariateNormal(model, rank=1),
    "flow": lambda: AutoIAFNormal(model, hidden_dim=[5]),
    "list": lambda: parts(model),
    "nested": Amortised,
}


def values():
    return {n: p.detach().clone() for n, p in pyro.get_param_store().named_parameters()}


def trained(kind, guide, optim, steps=4, loss=None):
    """Return the parameters after some steps, from the same start and with the same noise."""
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    made = guide()
    svi = kind(model, made, optim(), loss or Trace_ELBO())
    for _ in range(steps):
        svi.step(X)
    return values()


@pytest.mark.parametrize("name", GUIDES)
@pytest.mark.parametrize("factory", [pyro.optim.SGD, pyro.optim.Adam])
def test_a_parameter_of_several_names_is_stepped_once(name, factory):
    found = [
        trained(kind, GUIDES[name], lambda: factory({"lr": 0.01})) for kind in (SVI, pyro.infer.SVI)
    ]
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key], rtol=1e-5, atol=1e-6), key


class Tied(nn.Module):
    """One matrix encodes and decodes; model and guide register it under names of their own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(2, 2, bias=False, dtype=torch.float64)

    def model(self, x):
        pyro.module("decoder", self.map)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.map.weight, 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("both", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.map(x), 0.5).to_event(1))


@pytest.mark.parametrize("options", [{}, {"compile": "trace"}, {"clip": 0.1}, {"ema": 0.5}])
def test_tied_weights_move_as_torchs_optimiser_moves_them(options):
    pair, other = Tied(), Tied()
    svi = SVI(pair.model, pair.guide, functools.partial(torch.optim.SGD, lr=0.1), ELBO(), **options)
    optim = torch.optim.SGD(other.parameters(), lr=0.1)
    for seed in range(3):
        torch.manual_seed(seed)
        svi.step(X)
        torch.manual_seed(seed)
        with pyro.get_param_store().scope():
            ELBO()(other.model, other.guide, X).backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), options.get("clip", math.inf))
        optim.step()
        optim.zero_grad()
    torch.testing.assert_close(pair.map.weight, other.map.weight)
    assert len(svi.params) == 1
    assert not svi.untrained()
    with svi.averaged():
        moved = not torch.equal(pair.map.weight, other.map.weight)
    assert moved == ("ema" in options)
    torch.testing.assert_close(pair.map.weight, other.map.weight)


def by_name(name):
    return {"lr": 0.02 if name == "loc" else 0.005}


def by_module_and_name(module, name):
    return by_name(name)


OPTIMISERS = {
    "adam": lambda: pyro.optim.Adam({"lr": 0.01}),
    "adamw": lambda: pyro.optim.AdamW({"lr": 0.01}),
    "momentum": lambda: pyro.optim.SGD({"lr": 0.01, "momentum": 0.9}),
    "clipped adam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.9}),
    "dct adam": lambda: pyro.optim.DCTAdam({"lr": 0.01}),
    "adagrad": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
    "by name": lambda: pyro.optim.Adam(by_name),
    "by module": lambda: pyro.optim.Adam(by_module_and_name),
    "clipping": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 1.0}),
    "decaying": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.9}
    ),
    "steps": lambda: pyro.optim.StepLR(
        {
            "optimizer": torch.optim.SGD,
            "optim_args": {"lr": 0.01, "momentum": 0.9},
            "gamma": 0.5,
            "step_size": 2,
        }
    ),
}


def run(optim, steps, kind=SVI):
    svi = kind(model, guide, optim, Trace_ELBO())
    for _ in range(steps):
        svi.step(X)
        if isinstance(optim, pyro.optim.PyroLRScheduler):
            optim.step()


@pytest.mark.parametrize("written", [SVI, pyro.infer.SVI], ids=["ours", "pyro's"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_saved_optimiser_goes_on_to_the_same_numbers(name, written, tmp_path):
    whole = OPTIMISERS[name]()
    pyro.set_rng_seed(1)
    run(whole, 8)
    expected = values()

    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    first = OPTIMISERS[name]()
    run(first, 4, written)
    first.save(tmp_path / "optim")
    pyro.get_param_store().save(tmp_path / "params")
    pyro.clear_param_store()
    pyro.get_param_store().load(tmp_path / "params")
    second = OPTIMISERS[name]()
    second.load(tmp_path / "optim")
    run(second, 4)
    for key, value in values().items():
        close = torch.equal if written is SVI else torch.allclose
        assert close(value, expected[key]), key
    assert second.get_state().keys() == {"loc", "width", "shift"}


def test_a_state_that_was_set_is_not_lost_before_the_first_step():
    optim, other, last = (pyro.optim.Adam({"lr": 0.01}) for _ in range(3))
    run(optim, 3)
    SVI(model, guide, other, Trace_ELBO())
    other.set_state(optim.get_state())
    last.set_state(other.get_state())
    run(last, 1)
    assert float(last.get_state()["loc"]["state"][0]["step"]) == 4


def test_the_callers_optimiser_shows_the_training():
    optim = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(model, guide, optim, Trace_ELBO())
    assert svi.optim is optim
    svi.step(X)
    svi.step(X)
    loc = pyro.param("loc").unconstrained()
    assert float(optim.get_state()["loc"]["state"][0]["step"]) == 2
    alone = optim.optim_objs[loc]
    assert isinstance(alone, torch.optim.Adam)
    assert alone.state_dict()["state"][0]["exp_avg"].shape == (2,)
    assert alone.param_groups[0]["lr"] == 0.01


def test_pyro_does_not_take_the_callers_optimiser_for_a_scheduler():
    optim = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(model, AutoNormal(model), optim, Trace_ELBO())
    assert not is_scheduler(optim)
    svi.step(X)
    assert not is_scheduler(optim)


def test_a_second_training_goes_on_with_the_moments_of_the_first():
    found = []
    for kind in (SVI, pyro.infer.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        optim = pyro.optim.Adam({"lr": 0.01})
        run(optim, 3, pyro.infer.SVI)
        run(optim, 3, kind)
        run(optim, 2, kind)
        found.append(values())
        assert float(optim.get_state()["loc"]["state"][0]["step"]) == 8
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key]), key


def test_a_rate_set_for_one_parameter_is_that_parameters():
    moved = []
    for kind in (SVI, pyro.infer.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        optim = pyro.optim.SGD({"lr": 0.01})
        svi = kind(model, guide, optim, Trace_ELBO())
        svi.step(X)
        for own in optim.optim_objs.values():
            for group in own.param_groups:
                group["lr"] *= 0.5
        optim.optim_objs[pyro.param("shift").unconstrained()].param_groups[0]["lr"] = 0.0
        kept = pyro.param("shift").item()
        svi.step(X)
        assert pyro.param("shift").item() == kept
        rates = [o.param_groups[0]["lr"] for o in optim.optim_objs.values()]
        assert sorted(rates) == [0.0, 0.005, 0.005]
        moved.append(values())
    for key, value in moved[0].items():
        assert torch.allclose(value, moved[1][key]), key


def test_a_state_is_put_back_after_steps():
    optim = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(model, guide, optim, Trace_ELBO())
    svi.step(X)
    kept = copy.deepcopy(optim.get_state())
    for _ in range(3):
        svi.step(X)
    optim.set_state(copy.deepcopy(kept))
    now = optim.get_state()["loc"]["state"][0]
    for key, value in kept["loc"]["state"][0].items():
        assert torch.equal(now[key], value), key


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: {"loc": {"scheduler": {}, "optimizer": s["loc"]}}, "another kind of optimiser"),
        (
            lambda s: {
                "loc": {**s["loc"], "state": {0: {"exp_avg": torch.zeros(5), "step": 1}}},
            },
            r"'exp_avg' of 'loc' has the shape \(5,\), expected \(2,\)",
        ),
    ],
)
@pytest.mark.parametrize("steps", [0, 1])
def test_a_state_that_does_not_fit_is_refused(spoil, words, steps):
    optim = pyro.optim.Adam({"lr": 0.01})
    run(optim, 1)
    state = spoil(optim.get_state())
    other = pyro.optim.Adam({"lr": 0.01})
    svi = SVI(model, guide, other, Trace_ELBO())
    if steps:
        svi.step(X)

    def load():
        other.set_state(state)
        svi.step(X)

    with pytest.raises(ValueError, match=words):
        load()


def test_a_parameter_that_another_program_made_is_trained_from_its_first_use():
    pyro.param("later", torch.zeros(()))
    count = []

    def late(x):
        count.append(1)
        loc = pyro.param("loc", x.new_zeros(2))
        if len(count) > 2:
            loc = loc + pyro.param("later")
        pyro.sample("mean", dist.Normal(loc, 0.5).to_event(1))
        pyro.sample("sd", dist.LogNormal(0.0, 0.1))

    svi = SVI(model, late, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
    svi.step(X)
    svi.step(X)
    assert pyro.param("later").item() == 0
    svi.step(X)
    assert pyro.param("later").item() != 0


def test_parameters_of_a_cleared_store_are_trained_anew():
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
    svi.step(X)
    pyro.clear_param_store()
    guide(X)
    start = pyro.param("loc").detach().clone()
    svi.step(X)
    assert not torch.equal(pyro.param("loc"), start)


@pytest.mark.parametrize("enabled", [True, False])
def test_validation_is_as_the_user_has_it(enabled):
    seen = []

    def watched(x):
        seen.append(is_validation_enabled())
        guide(x)

    with pyro.validation_enabled(enabled):
        svi = SVI(model, watched, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        svi.step(X)
        svi.step(X)
        assert is_validation_enabled() == enabled
    assert seen == [enabled, enabled]


def odd(x):
    """Observes a value outside of a distribution's support, which validation alone notices."""
    model(x)
    pyro.sample("odd", dist.Bernoulli(torch.tensor(0.5)), obs=torch.tensor(0.3))


def test_validation_that_is_off_stays_off_at_the_first_step():
    with pyro.validation_enabled(False):
        svi = SVI(odd, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        assert math.isfinite(svi.step(X))
    with pyro.validation_enabled(True), pytest.raises(ValueError, match="odd"):
        SVI(odd, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(X)


def plain(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def plain_guide(x):
    loc = pyro.param("loc", x.new_zeros(len(x)))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 1.0))


def test_an_infinite_loss_with_a_finite_gradient_is_stepped():
    moved = []
    for kind in (SVI, pyro.infer.SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        loss = TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True)
        svi = kind(plain, plain_guide, pyro.optim.SGD({"lr": 0.1}), loss)
        value = svi.step(X[:, 0])
        assert not math.isfinite(value)
        moved.append(pyro.param("loc").detach().clone())
    assert moved[0].abs().sum() > 0
    torch.testing.assert_close(*moved)


def test_a_gradient_of_pyros_loss_that_is_not_finite_still_stops():
    def cliff(x):
        loc = pyro.param("loc", x.new_zeros(()))
        pyro.factor("cliff", loc.sqrt())

    svi = SVI(cliff, lambda x: None, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO())
    with pytest.raises(ValueError, match="gradient of step 0"):
        svi.step(X)
    assert pyro.param("loc").item() == 0
