"""Traced and compiled steps: the same gradients as eager ones, and a fall-back with a reason."""

from __future__ import annotations

import itertools
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

from priory.divergences import mmd
from priory.inference import ELBO, IWAE, SVI, Adversarial, Linear, Match, Reconstruction
from priory.inference.engine.fx_graph import Traced, Untraceable
from priory.models import VAE
from priory.nets import MLP

SGD = partial(torch.optim.SGD, lr=0.1)
OBJECTIVES = {
    "elbo": ELBO,
    "analytic": partial(ELBO, beta=0.5, analytic_kl=True),
    "iwae": partial(IWAE, 3),
    "wae": lambda: Reconstruction() + 2 * Match(mmd, "z"),
    "aae": lambda: Reconstruction() + Adversarial(MLP((4,)), "z", r1=1.0, clip=0.5),
}
EVERY = {**OBJECTIVES, "all": lambda: OBJECTIVES["iwae"]() + OBJECTIVES["aae"]()}


pytestmark = pytest.mark.usefixtures("double")


def train(compile, prior, objective, steps=4, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    x = torch.rand(9, 6).round()
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.2), nn.Linear(5, 4)
    noisy = options.pop("dropout", False)
    pair = VAE(prior, nn.Sequential(*layers) if noisy else MLP((5,)), MLP((5,)), "bernoulli", 2)
    pair.build(x)
    svi = SVI(pair.model, pair.guide, SGD, EVERY[objective](), compile=compile, **options)
    losses = [svi.step(x=x) for _ in range(steps)]
    return torch.stack(losses), pair, svi


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], atol=1e-10, rtol=0)
    for a, b in zip(one[1].parameters(), other[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


# Draws of a mixture carry no gradient to its parameters: "wae" and "aae" need another prior.
@pytest.mark.parametrize(
    ("prior", "objective"),
    [
        *itertools.product(["normal", "stick-breaking"], OBJECTIVES),
        *itertools.product(["mixture", "vamp"], ["elbo", "analytic", "iwae"]),
    ],
)
def test_traced_steps_are_the_eager_ones(prior, objective):
    traced = train("trace", prior, objective)
    assert traced[2].engine == "traced"
    assert_same(train("off", prior, objective), traced)
    critics = [player.compiler for _, player in traced[2].critics]
    assert all(compiler.engine == "traced" for compiler in critics)


def test_compiled_steps_are_the_eager_ones():
    """Of a bound of particles, a reconstruction, and a game with its critic's own graph."""
    compiled = train("inductor", "normal", "all", dropout=True)
    assert compiled[2].engine == "compiled"
    assert [player.compiler.engine for _, player in compiled[2].critics] == ["compiled"]
    assert_same(train("off", "normal", "all", dropout=True), compiled)


def test_compiled_expm1_is_exact_near_zero():
    x = torch.logspace(-12, 1.5, 200, dtype=torch.float32)
    x = torch.cat([-x, x])
    scale = torch.ones((), dtype=torch.float32, requires_grad=True)
    graph = Traced(lambda x: torch.expm1(scale * x).abs().log().sum(), [scale], [x])
    assert graph.compile([x]) == ""
    y = x.double()
    loss = graph([x]).double()
    torch.testing.assert_close(loss, torch.expm1(y).abs().log().sum(), rtol=1e-6, atol=0)
    exact = (y * y.exp() / torch.expm1(y)).sum()
    torch.testing.assert_close(scale.grad.double(), exact, rtol=1e-6, atol=0)


def test_draws_keep_their_order_when_compiled():
    scale = torch.ones((), requires_grad=True)
    first, last = torch.ones(60, 50), torch.ones(50, 3)

    def loss(x):
        codes = torch.empty(60, 50).exponential_()  # used last
        torch.empty(70).exponential_().log()  # not at all
        noise = torch.randn_like(x)  # used first
        return (scale * (x + noise) @ first).exp().sum() + (scale * codes @ last).sum()

    x = torch.zeros(40, 60)
    graph, losses = Traced(loss, [scale], [x]), []
    for way in range(3):
        step = loss if way == 0 else lambda x: graph([x])
        if way == 2:
            graph.compile([x])
        pyro.set_rng_seed(0)
        losses.append([step(x).item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert losses[0] == pytest.approx(losses[2], rel=1e-12)


def test_auto_traces_long_trainings_alone():
    assert train("auto", "normal", "elbo", horizon=499)[2].engine == "eager"
    assert train("auto", "normal", "elbo", horizon=500)[2].engine == "traced"
    assert train("auto", "normal", "elbo")[2].engine == "eager"


def test_compiling_a_longer_graph_is_expected_to_take_longer(monkeypatch):
    monkeypatch.setattr("priory.inference.engine.fx_graph._OPERATIONS", 50)

    def chain(length):
        scale = torch.ones((), requires_grad=True)
        x = torch.ones(3)

        def loss(x):
            for _ in range(length):
                x = torch.tanh(scale * x)
            return x.sum()

        return Traced(loss, [scale], [x]).compile_seconds

    assert chain(2) == chain(4) == 15.0
    assert chain(40) == pytest.approx(4 * chain(20), rel=0.2)


def test_auto_compiles_what_the_steps_to_come_repay():
    svi = train("auto", "normal", "elbo", horizon=500)[2]
    (graph,) = svi.pair.compiler._graphs.values()
    enough = int(20 / graph.overhead)
    assert train("auto", "normal", "elbo", horizon=enough)[2].engine == "compiled"


def test_without_a_compiler_steps_are_traced_with_one_warning(monkeypatch):
    def compile(self, batch):
        raise Untraceable("inductor failed: no compiler")

    monkeypatch.setattr(Traced, "compile", compile)
    with pytest.warns(UserWarning, match="traced, but not compiled: inductor failed") as caught:
        svi = train("inductor", "normal", "elbo")[2]
    assert svi.engine == "traced"
    assert len(caught) == 1


@pytest.mark.parametrize("asked", ["1", "0"])
def test_calls_between_kernels_are_python_where_cpp_fails_or_is_not_asked_for(monkeypatch, asked):
    tried = []

    def compiled(graph, inputs, wrapped):
        tried.append(wrapped)
        if wrapped:
            raise NotImplementedError("no such call")
        return graph

    monkeypatch.setattr("priory.inference.engine.fx_graph._compiled", compiled)
    monkeypatch.setenv("TORCHINDUCTOR_CPP_WRAPPER", asked)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        svi = train("inductor", "normal", "elbo")[2]
    assert svi.engine == "compiled"
    assert tried == ([True, False] if asked == "1" else [False])
    said = [str(w.message) for w in caught]
    text = "the calls between the compiled kernels are Python: no such call"
    assert said == ([text] if asked == "1" else [])


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


def test_schedules_move_in_a_graph():
    def losses(compile):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        x = torch.rand(9, 6).round()
        pair = VAE("normal", MLP((5,)), MLP((5,)), "bernoulli", 2)
        pair.build(x)
        objective = ELBO(Linear(0.0, 1.0, 10)) + Linear(1.0, 5.0, 7) * Match(mmd, "z")
        svi = SVI(pair.model, pair.guide, SGD, objective, compile=compile)
        return torch.stack([svi.step(x=x) for _ in range(12)]), svi

    eager, _ = losses("off")
    traced, svi = losses("trace")
    assert svi.engine == "traced"
    torch.testing.assert_close(traced, eager, atol=1e-10, rtol=0)


@pytest.mark.parametrize("case", ["values", "schedule", "counter"])
def test_what_cannot_be_traced_runs_eager_with_one_warning(case):
    factor, calls = Linear(1.0, 5.0, 10), []

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = factor

        def model(self, x):
            calls.append(x)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
                if case == "values" and z.sum().item() > 1e9:
                    raise RuntimeError
                if case == "schedule":
                    z = z * float(self.factor)
                if case == "counter":
                    z = z + len(calls)
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(())), 1.0))

    pair = Pair()
    svi = SVI(pair.model, pair.guide, SGD, ELBO(), compile="trace")
    svi.step(torch.zeros(3))
    with pytest.warns(UserWarning, match="runs eager"):
        svi.step(torch.zeros(3))
    svi.step(torch.zeros(3))


def test_loss_with_gradients_of_its_own_runs_eager_and_says_so():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("m", torch.zeros(())), 1.0), obs=x)

    with pytest.warns(UserWarning, match="computes its gradients by itself"):
        svi = SVI(model, lambda x: None, SGD, pyro.infer.Trace_ELBO(), compile="trace")
    svi.step(torch.zeros(3))
    svi.step(torch.zeros(3))
