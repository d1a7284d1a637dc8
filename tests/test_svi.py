"""The engine: equal to Pyro's, and safe where Pyro is silent."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn

from pairs import LinearGaussian
from priory.distributions.pixels import IndependentBernoulli
from priory.divergences import mmd
from priory.inference import (
    ELBO,
    IWAE,
    SVI,
    Adversarial,
    Linear,
    Match,
    MismatchError,
    Phases,
    Reconstruction,
)
from priory.nets import MLP

ADAM = partial(torch.optim.Adam, lr=0.01)


def conjugate_model(x):
    """w ~ N(0, 1), x ~ N(w, 1)."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def conjugate_guide(x):
    loc = pyro.param("loc", torch.tensor(0.0))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("w", dist.Normal(loc, scale))


def store():
    return {k: v.detach().clone() for k, v in pyro.get_param_store().items()}


LOSSES = {
    "Trace": pyro.infer.Trace_ELBO(),
    "MeanField": pyro.infer.TraceMeanField_ELBO(),
    "Enum": pyro.infer.TraceEnum_ELBO(max_plate_nesting=1),
    "Graph": pyro.infer.TraceGraph_ELBO(),
    "callable": lambda m, g, *a, **k: pyro.infer.Trace_ELBO().differentiable_loss(m, g, *a, **k),
}


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optim", ["adam", "by name", "clipped", "schedule"])
def test_steps_are_those_of_pyro(loss, optim):
    """Same programs, same seed, same loss: the same parameters after thirty steps."""
    x = torch.linspace(-1, 3, 20)
    makers = {
        "adam": lambda: pyro.optim.Adam({"lr": 0.02}),
        "by name": lambda: pyro.optim.Adam(lambda name: {"lr": 0.02 if name == "loc" else 0.05}),
        "clipped": lambda: pyro.optim.ClippedAdam({"lr": 0.02, "clip_norm": 1.0}),
        "schedule": lambda: pyro.optim.ExponentialLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.9}
        ),
    }
    found = []
    for engine in (pyro.infer.SVI, SVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        made = makers[optim]()
        svi = engine(conjugate_model, conjugate_guide, made, LOSSES[loss])
        for _ in range(30):
            svi.step(x)
            if optim == "schedule":
                made.step()
        found.append(store())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=0)


def test_autoguide_and_pyro_module_reach_the_exact_posterior():
    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.w = PyroSample(dist.Normal(0.0, 1.0))
            self.s = PyroParam(torch.tensor(1.0), constraint=dist.constraints.positive)

        def forward(self, x):
            w = self.w
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(w, 1.0 + 0 * self.s), obs=x)

    model = Regression()
    guide = AutoNormal(model)
    x = torch.linspace(-1, 3, 20)
    svi = SVI(model, guide, partial(torch.optim.Adam, lr=0.05), ELBO(particles=8))
    for _ in range(600):
        svi.step(x)
    median = guide.median()["w"]
    assert abs(float(median) - float(x.sum() / 21)) < 0.1


def test_loss_stays_a_tensor_and_state_is_pyros():
    x = torch.linspace(-1, 3, 20)
    svi = SVI(conjugate_model, conjugate_guide, ADAM, ELBO())
    loss = svi.step(x)
    assert loss.shape == ()
    assert not loss.requires_grad
    assert set(svi.optim.get_state()) == {"loc", "scale"}
    assert isinstance(svi, pyro.infer.SVI)
    assert isinstance(svi.evaluate_loss(x), float)


def test_optimiser_state_goes_on_where_it_was():
    x = torch.linspace(-1, 3, 20)
    svi = SVI(conjugate_model, conjugate_guide, ADAM, ELBO())
    for _ in range(5):
        svi.step(x)
    params, state = pyro.get_param_store().get_state(), deepcopy(svi.optim.get_state())
    params["params"] = {k: v.detach().clone().requires_grad_() for k, v in params["params"].items()}
    results = []
    for fresh in (False, True):
        if fresh:
            pyro.clear_param_store()
            pyro.get_param_store().set_state(params)
            svi = SVI(conjugate_model, conjugate_guide, ADAM, ELBO())
            svi.optim.set_state(state)
        pyro.set_rng_seed(1)
        svi.step(x)
        results.append(store())
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value)


def test_second_module_with_the_same_names_is_refused():
    """The store is global: Pyro would go on training the first module."""
    x = LinearGaussian().marginal.sample((4,))
    first, second = LinearGaussian(), LinearGaussian()
    SVI(first.model, first.guide, ADAM, ELBO()).step(x)
    with pytest.raises(ValueError, match=r"would not be trained.*parameter store"):
        SVI(second.model, second.guide, ADAM, ELBO()).step(x)
    with pyro.get_param_store().scope():
        SVI(second.model, second.guide, ADAM, ELBO()).step(x)


def test_plain_module_inside_a_pyro_module_is_not_silently_untrained():
    """A PyroModule registers plain submodules in `forward` alone, not in other methods."""

    class Bad(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 1))

        def model(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.net(x[:, None])[:, 0], 1.0), obs=x)

        def guide(self, x):
            pass

    bad = Bad()
    with pytest.raises(ValueError, match=r"net.0.weight.*would not be trained"):
        SVI(bad.model, bad.guide, ADAM, ELBO()).step(torch.zeros(3))
    pyro.infer.SVI(bad.model, bad.guide, pyro.optim.Adam({}), pyro.infer.Trace_ELBO()).step(
        torch.zeros(3)
    )
    assert len(pyro.get_param_store()) == 0


def test_module_local_parameters_are_trained():
    """Pyro's own SVI crashes under this setting: such parameters are in no store."""

    class Mean(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = PyroModule[nn.Linear](1, 1)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.net(x[:, None])[:, 0], 1.0), obs=x)

    x = torch.ones(4)
    with pyro.settings.context(module_local_params=True):
        model = Mean()
        theirs = pyro.infer.SVI(model, lambda x: None, pyro.optim.Adam({}), pyro.infer.Trace_ELBO())
        with pytest.raises(AttributeError, match="unconstrained"):
            theirs.step(x)
        svi = SVI(model, lambda x: None, partial(torch.optim.Adam, lr=0.1), ELBO())
        for _ in range(200):
            svi.step(x)
        assert float(model.net(torch.ones(1, 1)).detach()) == pytest.approx(1.0, abs=0.05)


def test_critic_inside_the_pair_is_refused():
    class Leaky(LinearGaussian):
        def __init__(self):
            super().__init__()
            self.critic = nn.Linear(2, 1).double()

    pair = Leaky()
    x = pair.marginal.sample((8,))
    loss = Reconstruction() + Adversarial(pair.critic, "z")
    with pytest.raises(ValueError, match="wrong direction"):
        SVI(pair.model, pair.guide, ADAM, loss).step(x)


@pytest.mark.parametrize(
    ("model_sites", "guide_sites", "message"),
    [
        (("z",), (), "the model draws 'z', which the guide does not"),
        (("latent",), ("latents",), "did you mean 'latents'"),
        (("z",), ("z", "extra"), "the guide draws 'extra'"),
        (("z", "z"), ("z",), "two sites are called 'z'"),
    ],
)
def test_sites_that_do_not_match_are_an_error(model_sites, guide_sites, message):
    def model(x):
        with pyro.plate("data", len(x)):
            z = sum(pyro.sample(s, dist.Normal(0.0, 1.0)) for s in model_sites)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            for s in guide_sites:
                pyro.sample(s, dist.Normal(pyro.param("m", torch.zeros(())), 1.0))

    with pytest.raises(MismatchError, match=message):
        SVI(model, guide, ADAM, ELBO()).step(torch.zeros(3))


@pytest.mark.parametrize("case", ["model", "data"])
def test_shape_slip_is_an_error(case):
    """(B,) against (B, 1) gives a (B, B) density, which Pyro sums without a word."""

    def model(x):
        with pyro.plate("data", 5):
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0))
            loc = z[:, None] if case == "model" else z
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x if case == "model" else x[:, None])

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(5)), 1.0))

    with pytest.raises(ValueError, match=r"'x' in the model has the shape \(5, 5\)"):
        SVI(model, guide, ADAM, ELBO()).step(torch.zeros(5))


@pytest.mark.parametrize("make", [lambda p: dist.Bernoulli(p).to_event(1), None])
@pytest.mark.parametrize(
    ("value", "words"), [(0.3, r"\[0.3, 0.3\].*binarise"), (255.0, r"integers.*\[255, 255\]")]
)
def test_grey_pixels_under_a_bernoulli_are_an_error(make, value, words):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            p = torch.sigmoid(z)[:, None].expand(-1, 4)
            pyro.sample("x", make(p) if make else IndependentBernoulli(p, 1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(())), 1.0))

    with pytest.raises(ValueError, match=words):
        SVI(model, guide, ADAM, ELBO()).step(torch.full((3, 4), value))


def test_discrete_latent_without_a_pathwise_gradient_is_an_error():
    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(c, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))))

    with pytest.raises(ValueError, match="no reparameterised samples"):
        SVI(model, guide, ADAM, ELBO()).step(torch.zeros(3))


def test_each_player_gets_its_own_gradients_alone():
    pair = LinearGaussian()
    x = pair.marginal.sample((16,))
    adversarial = Adversarial(MLP((8,)), "z")
    loss = Reconstruction() + adversarial
    svi = SVI(pair.model, pair.guide, ADAM, loss)
    svi.step(x)
    phases = Phases(pair.model, pair.guide, (x,))
    critic = list(adversarial.critic.parameters())
    assert len(critic) == 4
    loss.loss(phases).backward()
    assert all(p.grad is None for p in critic)
    assert all(p.grad is not None for p in pair.parameters())
    for p in pair.parameters():
        p.grad = None
    adversarial.critic_loss(Phases(pair.model, pair.guide, (x,))).backward()
    assert all(p.grad is None for p in pair.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic)


def test_critic_learns_the_log_density_ratio():
    """At the critic's optimum C = log p(awake) / p(asleep)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            loc = pyro.param("loc", torch.ones(1))
            pyro.sample("z", dist.Normal(loc, 1.0).expand([len(x), 1]).to_event(1))

    x = torch.zeros(2000, 1)
    adversarial = Adversarial(MLP((32,), "tanh"), "z", steps=300)
    svi = SVI(model, guide, partial(torch.optim.SGD, lr=0.0), adversarial, critic_optim=ADAM)
    svi.step(x)
    z = torch.linspace(-1, 2, 20)[:, None]
    expected = dist.Normal(1.0, 1.0).log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z)
    assert (adversarial.scores(z).detach() - expected[:, 0]).abs().mean() < 0.1


def test_match_counts_every_particle_of_every_datum():
    pair = LinearGaussian()
    x = pair.marginal.sample((6,))
    seen = []

    def spy(a, b):
        seen.append((a.shape, b.shape))
        return mmd(a, b)

    (IWAE(4) + Match(spy, "z"))(pair.model, pair.guide, x)
    assert seen == [((24, 2), (6, 2))]


@pytest.mark.parametrize(
    "optim",
    [
        pyro.optim.ExponentialLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.9}
        ),
        pyro.optim.Adam({"lr": 0.02}, {"clip_norm": 1.0}),
    ],
)
def test_a_rate_that_the_optimiser_would_not_take_is_refused(optim):
    with pytest.raises(ValueError, match="leave rate= out"):
        SVI(conjugate_model, conjugate_guide, optim, ELBO(), rate=Linear(1.0, 0.5, 10))


def test_schedules_move_with_the_steps_wherever_they_stand():
    pair = LinearGaussian()
    pair.temperature = Linear(1.0, 0.0, 10)
    beta, weight = Linear(0.0, 1.0, 10), Linear(0.0, 1.0, 5)
    rate = Linear(1.0, 0.5, 10)
    svi = SVI(pair.model, pair.guide, ADAM, ELBO(beta) + weight * Reconstruction(), rate=rate)
    x = pair.marginal.sample((6,))
    for _ in range(6):
        svi.step(x)
    assert float(beta) == 0.5
    assert float(weight) == 1.0
    assert float(pair.temperature) == 0.5
    assert svi.optim.joint.param_groups[0]["lr"] == pytest.approx(0.0075)


def test_gradient_is_clipped_by_its_global_norm():
    pair = LinearGaussian()
    before = [p.detach().clone() for p in pair.parameters()]
    sgd = partial(torch.optim.SGD, lr=1.0)
    SVI(pair.model, pair.guide, sgd, ELBO(), clip=0.1).step(pair.marginal.sample((6,)) * 100)
    moved = torch.cat([(p - b).flatten() for p, b in zip(pair.parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.1, rel=1e-4)


def test_moving_average_lags_behind_and_gives_way():
    pair = LinearGaussian()
    x = pair.marginal.sample((6,))
    svi = SVI(pair.model, pair.guide, ADAM, ELBO(), ema=0.9)
    for _ in range(20):
        svi.step(x)
    trained = pair.w.detach().clone()
    with svi.averaged():
        assert not torch.equal(pair.w, trained)
    assert torch.equal(pair.w, trained)


@pytest.mark.parametrize("option", [{"clip": 0.0}, {"ema": 1.0}, {"ema": -0.1}])
def test_options_out_of_range_are_errors(option):
    pair = LinearGaussian()
    with pytest.raises(ValueError, match=next(iter(option))):
        SVI(pair.model, pair.guide, ADAM, ELBO(), **option)


def test_objectives_work_in_pyros_own_svi():
    x = torch.linspace(-1, 3, 20)
    svi = pyro.infer.SVI(conjugate_model, conjugate_guide, pyro.optim.Adam({"lr": 0.02}), ELBO())
    for _ in range(400):
        svi.step(x)
    assert abs(float(pyro.param("loc").detach()) - 20 / 21) < 0.15
