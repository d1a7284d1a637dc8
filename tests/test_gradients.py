"""Gradients through draws: exact where a draw has one, refused in words where it has none."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from priory.distributions.independent import IndependentNormal
from priory.divergences import energy
from priory.inference import (
    ELBO,
    IWAE,
    KL,
    SVI,
    Adversarial,
    Match,
    Phases,
    Reconstruction,
    Renyi,
    Sleep,
)
from priory.parsing import parse_objective
from priory.priors import NormalMixture

pytestmark = pytest.mark.usefixtures("doubles")
X = torch.linspace(-1, 1, 6, dtype=torch.float64)
BITS = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0], [0.0]], dtype=torch.float64)


@pytest.fixture
def doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def sgd(params):
    return torch.optim.SGD(params, lr=0.0)


# --- draws of the guide ---------------------------------------------------------------------------


class Coin(nn.Module):
    """A discrete draw of the guide, the model's latent or an auxiliary one."""

    def __init__(self, distribution, auxiliary, trained=True):
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.3)) if trained else torch.tensor(0.3)
        self.m = nn.Parameter(torch.tensor(0.2))
        self.distribution, self.auxiliary = distribution, auxiliary

    def model(self, x):
        pyro.module("coin", self)
        with pyro.plate("data", len(x)):
            if self.auxiliary:
                c = pyro.sample("z", dist.Normal(self.m, 1.0))
            else:
                c = pyro.sample("c", self.distribution(torch.zeros(())))
            pyro.sample("x", dist.Normal(c + self.m, 1.0), obs=x)

    def guide(self, x):
        pyro.module("coin", self)
        with pyro.plate("data", len(x)):
            infer = {"is_auxiliary": True} if self.auxiliary else {}
            c = pyro.sample("c", self.distribution(self.t), infer=infer)
            if self.auxiliary:
                pyro.sample("z", dist.Normal(0.5 * c, 1.0))


def bernoulli(t):
    return dist.Bernoulli(logits=t)


def poisson(t):
    return dist.Poisson(t.exp())


def categorical(t):
    return dist.Categorical(logits=torch.stack([t, -t, torch.zeros_like(t)]))


def mixture(t):
    mix = dist.Categorical(logits=torch.stack([t, -t]))
    return dist.MixtureSameFamily(mix, dist.Normal(torch.tensor([-1.0, 1.0]), 1.0))


LAWS = [bernoulli, poisson, categorical, mixture]
BOUNDS = [ELBO(), ELBO(0.5), ELBO(particles=3), KL(), IWAE(2), Renyi(0.5, 2), Reconstruction()]


@pytest.mark.parametrize("auxiliary", [False, True], ids=["latent", "auxiliary"])
@pytest.mark.parametrize("distribution", LAWS)
def test_a_draw_without_a_pathwise_gradient_is_refused_at_every_door(distribution, auxiliary):
    words = "guide's 'c' .* no reparameterised samples"
    pair = Coin(distribution, auxiliary)
    for objective in BOUNDS:
        if auxiliary and isinstance(objective, IWAE | Renyi):
            continue  # refused for another reason: no bound
        with pytest.raises(ValueError, match=words):
            objective(pair.model, pair.guide, X)
    for check in (True, False):
        pyro.clear_param_store()
        with pytest.raises(ValueError, match=words):
            SVI(pair.model, pair.guide, sgd, ELBO(), check=check).step(X)
    pyro.clear_param_store()
    with pytest.raises(ValueError, match=words):
        pyro.infer.SVI(pair.model, pair.guide, pyro.optim.SGD({"lr": 0.0}), ELBO()).step(X)
    if auxiliary:
        with pytest.raises(ValueError, match=words):
            Match(energy, "z")(pair.model, pair.guide, X)


@pytest.mark.parametrize("distribution", LAWS)
def test_without_gradients_such_a_pair_is_scored(distribution):
    pair = Coin(distribution, auxiliary=False)
    with torch.no_grad():
        assert ELBO()(pair.model, pair.guide, X).isfinite()


@pytest.mark.parametrize("distribution", LAWS)
def test_a_draw_that_depends_on_nothing_trained_is_welcome(distribution):
    pair = Coin(distribution, auxiliary=False, trained=False)
    SVI(pair.model, pair.guide, sgd, ELBO()).step(X)
    ELBO()(pair.model, pair.guide, X).backward()
    assert pair.m.grad is not None


def test_pyros_own_estimators_stay_allowed():
    pair = Coin(bernoulli, auxiliary=False)
    loss = pyro.infer.TraceGraph_ELBO()
    assert math.isfinite(float(SVI(pair.model, pair.guide, sgd, loss).step(X)))


def test_a_straight_through_draw_stays_allowed():
    def relaxed(t):
        return dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), logits=t)

    pair = Coin(relaxed, auxiliary=False)
    with pyro.validation_enabled(False):
        ELBO()(pair.model, pair.guide, X).backward()
    assert pair.t.grad is not None


# --- samples of the model -------------------------------------------------------------------------


class Bits(nn.Module):
    """One binary coordinate given a standard normal latent, under any names."""

    def __init__(self, site="x"):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.8))
        self.b = nn.Parameter(torch.tensor(0.1))
        self.e = nn.Parameter(torch.tensor([-0.5, 0.7]))
        self.site = site

    def model(self, x):
        pyro.module("bits", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            logits = (self.w * z + self.b)[..., None]
            pyro.sample(self.site, dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("bits", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.e[0] + self.e[1] * x[:, 0], 0.8))


ZZ = torch.linspace(-8, 8, 2001, dtype=torch.float64)
PZ = torch.exp(-0.5 * ZZ**2) / torch.exp(-0.5 * ZZ**2).sum()


def means(pair):
    """The mean of x at each node of the latent."""
    return torch.sigmoid(pair.w * ZZ + pair.b)


def critic():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def exact_game(pair):
    return (PZ * softplus(-critic()(means(pair)[:, None])[:, 0])).sum()


def exact_match(pair):
    m, ones = means(pair)[::10], BITS.mean()
    p = PZ[::10] / PZ[::10].sum()
    across = (p * (ones * (m - 1).abs() + (1 - ones) * m.abs())).sum()
    within = (p * p[:, None] * (m - m[:, None]).abs()).sum()
    return 2 * across - within - 2 * ones * (1 - ones)


def exact_sleep(pair):
    distribution = dist.Normal(pair.e[0] + pair.e[1] * means(pair), 0.8)
    return -(PZ * distribution.log_prob(ZZ)).sum()


TERMS = {
    "adversarial": (lambda **o: Adversarial(critic(), "x", **o), exact_game),
    "match": (lambda **o: Match(energy, "x", **o), exact_match),
    "sleep": (lambda **o: Sleep("z", **o), exact_sleep),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_sample_without_a_gradient_is_refused(name):
    pair, term = Bits(), TERMS[name][0]()
    for door in (term, ELBO() + 5 * term):
        with pytest.raises(ValueError, match=r"model's 'x' \(Bernoulli\).*mean=.*detached=True"):
            door(pair.model, pair.guide, BITS)
    with torch.no_grad():
        assert term(pair.model, pair.guide, BITS).isfinite()


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_of_a_mean_is_that_of_quadrature(name):
    make, exact = TERMS[name]
    pair, rows = Bits(), BITS.repeat(50, 1)
    own = [pair.w, pair.b] + ([pair.e] if name == "sleep" else [])
    expected = torch.autograd.grad(exact(pair), own)
    term = make(mean="x")
    found = [torch.autograd.grad(term(pair.model, pair.guide, rows), own) for _ in range(20)]
    for k, wanted in enumerate(expected):
        draws = torch.stack([g[k] for g in found])
        error = draws.std(0) / math.sqrt(len(draws))
        assert ((draws.mean(0) - wanted).abs() < 4 * error + 1e-3).all()


@pytest.mark.parametrize("name", ["match", "sleep"])
def test_a_detached_sample_moves_the_guide_alone(name):
    pair = Bits()
    term = Match(energy, "z", detached=True) if name == "match" else Sleep("z", detached=True)
    term(pair.model, pair.guide, BITS).backward()
    assert pair.e.grad is not None
    assert pair.w.grad is None


def test_a_fixed_discrete_prior_is_no_obstacle():
    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(torch.ones(3) / 3))
            shift = pyro.param("s", torch.tensor(0.5))
            pyro.sample("x", dist.Delta(c @ torch.arange(3.0) * shift), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            logits = pyro.param("l", torch.zeros(3)) * x[:, None]
            pyro.sample("c", dist.OneHotCategorical(logits=logits))

    loss = Sleep("c") + Match(energy, "x")
    loss(model, guide, X).backward()
    params = pyro.get_param_store()._params
    assert all(params[name].grad is not None for name in "sl")


def test_options_come_by_text():
    objective = parse_objective(
        "elbo + adversarial:x:critic=(mlp:4):mean=x + match:energy:z:detached=true"
        " + sleep:z:mean=x:arguments=x=x"
    )
    _, game, match, sleep = objective.terms()
    assert (game.mean, match.detached) == (("x",), True)
    assert (sleep.mean, sleep.arguments) == (("x",), {"x": "x"})


def test_what_a_mean_cannot_be_is_told():
    pair = Bits()
    with pytest.raises(ValueError, match="not among the sites"):
        Match(energy, "x", mean="z")
    for term in (Match(energy, "z", mean="z"), Sleep("z", mean="w")):
        with pytest.raises(ValueError, match="no site that the model observes"):
            term(pair.model, pair.guide, BITS)


# --- which argument a sample stands for -----------------------------------------------------------


class Names(nn.Module):
    """x given z, two features, observed at sites of any names and in parts."""

    def __init__(self, observe):
        super().__init__()
        self.e = nn.Parameter(torch.tensor(0.5))
        self.observe = observe

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            self.observe(z, x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.e * x.mean(-1), 0.6))


def named_otherwise(z, x):
    pyro.sample("obs", dist.Normal(z[:, None].expand(-1, 2), 0.5).to_event(1), obs=x)


def in_parts(z, x):
    pyro.sample("first", dist.Normal(z, 0.5), obs=x[:, 0])
    pyro.sample("second", dist.Normal(z[:, None], 0.5).to_event(1), obs=x[:, 1:])


def of_a_copy(z, x):
    pyro.sample("obs", dist.Normal(z[:, None].expand(-1, 2), 0.5).to_event(1), obs=x.clone())


@pytest.mark.parametrize("observe", [named_otherwise, in_parts, of_a_copy])
def test_the_guide_reads_the_sample_whatever_the_names(observe):
    pair, x = Names(observe), torch.zeros(20_000, 2)
    declared = {"x": "obs"} if observe is of_a_copy else None
    # q(z | mean of x) at x = z + noise: in closed form, of the mean's variance 0.125
    e = pair.e
    exact = ((1 - e) ** 2 + e**2 * 0.125) / 0.72 + math.log(0.6) + 0.5 * math.log(2 * math.pi)
    loss = Sleep("z", arguments=declared)(pair.model, pair.guide, x)
    assert loss.item() == pytest.approx(exact.item(), abs=0.04)
    (found,), (wanted,) = (torch.autograd.grad(v, e) for v in (loss, exact))
    assert found.item() == pytest.approx(wanted.item(), abs=0.06)


def test_what_cannot_be_matched_is_refused():
    pair = Names(of_a_copy)
    with pytest.raises(ValueError, match=r"arguments=\{'x': 'obs'\}"):
        Sleep("z")(pair.model, pair.guide, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="no argument, or no observed site"):
        Sleep("z", arguments={"x": "y"})(pair.model, pair.guide, torch.zeros(5, 2))


# --- rows of nested plates ------------------------------------------------------------------------


def nested_model(x):
    with pyro.plate("data", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0))
        with pyro.plate("inner", 3, dim=-1):
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def nested_guide(x):
    with pyro.plate("data", len(x), dim=-2):
        pyro.sample("z", dist.Normal(x.mean(-1, keepdim=True), 0.3))


def outer_model(x):
    with pyro.plate("outer", 3, dim=-2), pyro.plate("data", len(x), dim=-1):
        u = pyro.sample("u", dist.Normal(torch.zeros(3, len(x)), 1.0))
        pyro.sample("obs", dist.Normal(u, 0.5), obs=x.T)


def outer_guide(x):
    with pyro.plate("outer", 3, dim=-2), pyro.plate("data", len(x), dim=-1):
        pyro.sample("u", dist.Normal(x.T, 0.01))


@pytest.mark.parametrize("particles", [1, 4])
def test_rows_are_data_whatever_the_plates(particles):
    x = torch.arange(15.0).reshape(5, 3)
    inner = Phases(nested_model, nested_guide, (x,), particles=particles)
    assert inner.data("z").shape == (5 * particles,)
    assert inner.sampled("x").shape == (5, 3)
    both = inner.samples(("x", "z"), asleep=False)
    assert [tuple(v.shape) for v in both] == [(5 * particles, 3), (5 * particles, 1)]
    assert ((both[0].mean(1, keepdim=True) - both[1]).abs() < 2).all()
    outer = Phases(outer_model, outer_guide, (x,), particles=particles)
    u = outer.data("u")
    assert u.shape == (5 * particles, 3)
    torch.testing.assert_close(u, x.repeat(particles, 1), atol=0.1, rtol=0)
    torch.testing.assert_close(outer.data("obs"), x)
    assert outer.sampled("obs").shape == (5, 3)
    assert Match(energy, "u")(outer_model, outer_guide, x).isfinite()


# --- distributions remember nothing ---------------------------------------------------------------


@pytest.mark.parametrize("change", ["none", "in place", "detached", "sample"])
def test_a_density_is_that_of_the_value_whatever_was_drawn(change):
    loc = torch.tensor([[0.3, -0.2]], requires_grad=True)
    log_scale = torch.tensor([[0.1, 0.4]], requires_grad=True)
    ours = IndependentNormal(loc, log_scale, 1)
    theirs = torch.distributions.Normal(loc, log_scale.exp())
    z = ours.sample() if change == "sample" else ours.rsample()
    if change == "in place":
        z.mul_(5)
    elif change == "detached":
        z = z.detach()
    found, wanted = ours.log_prob(z), theirs.log_prob(z).sum(-1)
    torch.testing.assert_close(found, wanted)
    held = [loc, log_scale] + ([z] if z.requires_grad else [])
    for a, b in zip(
        torch.autograd.grad(found.sum(), held, retain_graph=True),
        torch.autograd.grad(wanted.sum(), held),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


# --- draws of a mixture ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("weights", [[0.0, 0.5, -1.0], [0.0, -6.0, 2.0]], ids=["even", "extreme"])
def test_the_gradient_of_a_mixtures_draws_is_that_of_the_mean(weights, size, dtype):
    logits = torch.tensor(weights, dtype=dtype, requires_grad=True)
    loc = torch.randn(3, size).to(dtype).requires_grad_()
    log_scale = (0.3 * torch.randn(3, size) - 0.2).to(dtype).requires_grad_()
    a, own = torch.linspace(0.5, 1.3, size, dtype=dtype), (logits, loc, log_scale)
    # E sin(a z + c) of a normal is exp(-var(a z) / 2) sin(a m + c)
    damped = torch.exp(-0.5 * (a * log_scale.exp()).square().sum(-1))
    exact = (logits.softmax(-1) * damped * torch.sin((a * loc).sum(-1) + 0.3)).sum()
    wanted = torch.autograd.grad(exact, own)
    distribution = NormalMixture(logits, loc, log_scale)
    found = []
    for _ in range(50):
        z = distribution.rsample(torch.Size((500,)))
        assert z.dtype == dtype
        found.append(torch.autograd.grad(torch.sin((z * a).sum(-1) + 0.3).mean(), own))
    for k, w in enumerate(wanted):
        draws = torch.stack([g[k] for g in found]).double()
        assert ((draws.mean(0) - w).abs() < 4.5 * draws.std(0) / math.sqrt(50) + 2e-3).all()


def test_a_mixture_prior_learns_from_a_comparison():
    prior = NormalMixture(*(torch.zeros(s, requires_grad=True) for s in ((2,), (2, 2), (2, 2))))
    torch.manual_seed(1)
    with torch.no_grad():
        drawn = prior.sample(torch.Size((5,)))
    torch.manual_seed(1)
    assert torch.equal(prior.rsample(torch.Size((5,))).detach(), drawn)
    energy(torch.ones(5, 2), prior.rsample(torch.Size((5,)))).backward()
    assert all(p.grad is not None for p in (prior.logits, prior.loc, prior.log_scale))
