"""Estimators of a bound's gradient: exact means, no variance where theory says so, agreement."""

from __future__ import annotations

import itertools
import re
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

from priory import fit
from priory.data import Data
from priory.distributions.categorical import OneHot
from priory.inference import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    Linear,
    Phases,
    Reconstruction,
    Renyi,
    objectives,
)
from priory.inference.objectives.rates import Capacity, FreeBits, rate
from priory.inference.objectives.wake import Wake
from priory.models import VAE, HelmholtzMachine
from priory.nets import MLP

pytestmark = pytest.mark.usefixtures("double")

BITS = 3
OBJECTIVES = {
    "elbo": lambda k, g: ELBO(particles=k, gradient=g),
    "iwae": lambda k, g: IWAE(k, gradient=g),
    "renyi": lambda k, g: Renyi(0.5, k, gradient=g),
}


class Dealt(dist.Bernoulli):
    """Bernoulli draws that are dealt from outside."""

    hand = None

    def expand(self, shape, _instance=None):
        return super().expand(shape, self._get_checked_instance(Dealt, _instance))

    def sample(self, sample_shape=()):
        return Dealt.hand.expand(sample_shape + self.batch_shape)


class BeliefNet(nn.Module):
    """A few bits, and four that depend on them."""

    def __init__(self, bits=BITS):
        super().__init__()
        torch.manual_seed(0)
        self.prior = nn.Parameter(torch.randn(bits))
        self.decoder, self.encoder = nn.Linear(bits, 4), nn.Linear(4, bits)

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Dealt(logits=self.prior.expand(len(x), -1)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Dealt(logits=self.encoder(x)).to_event(1))


def flat(grads):
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("gradient", ["score", "vimco"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_mean_over_all_tuples_is_the_gradient_of_the_mean(name, gradient, k):
    """Each row of a batch is the same datum with a tuple of its own, weighed by its probability."""
    pair = BeliefNet()
    params = list(pair.parameters())
    Dealt.hand = torch.cat(tuples(BITS, k), 1)
    x = torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(Dealt.hand.shape[1], -1)
    phases = Phases(pair.model, pair.guide, (x,), particles=k)
    probability = phases.awake.log_q("z").sum(0).exp()
    assert probability.sum().item() == pytest.approx(1)
    exact = (probability * bounds_of(phases, name)).sum()
    expected = flat(torch.autograd.grad(exact, params))
    weight = len(x) * probability.detach()
    loss = OBJECTIVES[name](k, gradient)(pair.model, pair.guide, x, weight=weight)
    mean = flat(torch.autograd.grad(loss, params))
    torch.testing.assert_close(mean, expected, atol=1e-10, rtol=0)
    assert expected.abs().max() > 0.01


def bounds_of(phases, name):
    """The loss of each row, written out."""
    log_weight = phases.awake.log_p() - phases.awake.log_q()
    if name == "elbo":
        return -log_weight.mean(0)
    power = 1.0 if name == "iwae" else 0.5
    return -(power * log_weight).exp().mean(0).log() / power


def bound_of(phases, name):
    """The loss of the only row."""
    return bounds_of(phases, name).squeeze(0)


class Chain(nn.Module):
    """z1 ~ N(0, 1), z2 ~ N(z1, 1), x ~ N(z2, s^2), with its exact posterior, drawn from the end."""

    def __init__(self, off=0.0):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(0.7))
        s2 = 0.7**2
        self.encoder = nn.ParameterDict(
            {
                "a": torch.tensor(2 / (2 + s2) + off),
                "v2": torch.tensor(2 * s2 / (2 + s2) + off),
                "c": torch.tensor(0.5 + off),
                "v1": torch.tensor(0.5 + off),
            }
        )

    def model(self, x):
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(x.new_zeros(()), 1.0))
            z2 = pyro.sample("z2", dist.Normal(z1, 1.0))
            pyro.sample("x", dist.Normal(z2, self.s), obs=x)

    def guide(self, x):
        e = self.encoder
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(e["a"] * x, e["v2"].sqrt()))
            pyro.sample("z1", dist.Normal(e["c"] * z2, e["v1"].sqrt()))


def guide_gradient(pair, objective, x):
    loss = objective(pair.model, pair.guide, x)
    return flat(torch.autograd.grad(loss, list(pair.encoder.values())))


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_variance_at_the_exact_posterior(name, k):
    """Of the guide's gradient along the path; the plain estimator's is not 0 there."""
    pair, x = Chain(), 1.5 * torch.randn(6)
    for gradient in ("stl", "dreg", "tail-adaptive"):
        found = guide_gradient(pair, OBJECTIVES[name](k, gradient), x)
        assert found.abs().max() < 1e-12
    assert guide_gradient(pair, OBJECTIVES[name](k, "pathwise"), x).abs().max() > 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_means_of_unbiased_estimators_agree(name):
    pair, k = Chain(off=0.2), 3
    x = torch.tensor(1.0).expand(400)
    params = list(pair.parameters())
    found = {}
    for gradient in ("pathwise", "dreg", "score", *(["stl"] if name == "elbo" else [])):
        torch.manual_seed(1)
        objective = OBJECTIVES[name](k, gradient)
        draws = []
        for _ in range(50):
            loss = objective(pair.model, pair.guide, x)
            draws.append(flat(torch.autograd.grad(loss, params)))
        draws = torch.stack(draws)
        found[gradient] = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    mean, error = found.pop("pathwise")
    for other, its in found.values():
        assert ((mean - other).abs() < 4 * (error**2 + its**2).sqrt() + 1e-12).all()


@pytest.mark.parametrize("gradient", ["stl", "dreg", "score", "vimco", "tail-adaptive"])
def test_an_estimator_returns_the_bound_itself(gradient):
    pair, x = Chain(off=0.1), torch.randn(5)
    for name in OBJECTIVES:
        values = []
        for g in (gradient, "pathwise"):
            torch.manual_seed(2)
            values.append(OBJECTIVES[name](4, g)(pair.model, pair.guide, x).item())
        assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_what_cannot_be_had_is_refused():
    pair, x = BeliefNet(), torch.ones(2, 4)
    Dealt.hand = torch.zeros(1, BITS)
    with pytest.raises(ValueError, match="no reparameterised samples"):
        ELBO()(pair.model, pair.guide, x)
    for gradient in ("stl", "dreg", "tail-adaptive"):
        with pytest.raises(ValueError, match="no reparameterised samples"):
            ELBO(gradient=gradient)(pair.model, pair.guide, x)
    with pytest.raises(ValueError, match="give 2 or more"):
        IWAE(1, gradient="vimco")(pair.model, pair.guide, x)
    with pytest.raises(ValueError, match="unknown gradient 'drag', nearest 'dreg'"):
        IWAE(gradient="drag")
    with pytest.raises(ValueError, match="pathwise gradient alone"):
        ELBO(analytic_kl=True, gradient="stl")


def loss_and_gradient(pair, objective, x, params):
    torch.manual_seed(0)
    loss = objective(pair.model, pair.guide, x)
    return loss, flat(torch.autograd.grad(loss, params, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("k", [2, 3])
def test_the_wake_phase_by_all_tuples(k):
    """Its mean gradient for the model is that of the mean self-normalised estimate."""
    pair, x = BeliefNet(), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    params = list(pair.parameters())
    hands = [torch.tensor(h) for h in itertools.product([0.0, 1.0], repeat=BITS)]
    mean, exact = 0.0, 0.0
    for hand in itertools.product(hands, repeat=k):
        Dealt.hand = torch.stack(hand).unsqueeze(1)
        phases = Phases(pair.model, pair.guide, (x,), particles=k)
        loss = Wake(k).loss(phases)
        log_p, log_q = phases.awake.log_p()[:, 0], phases.awake.log_q()[:, 0]
        probability = log_q.sum().exp().detach()
        w = (log_p - log_q).detach().softmax(0)
        assert loss.item() == pytest.approx(bound_of(phases, "iwae").item())
        mean = mean + probability * flat(torch.autograd.grad(loss, params, retain_graph=True))
        exact = exact - probability * (w * (log_p + log_q)).sum()
    torch.testing.assert_close(mean, flat(torch.autograd.grad(exact, params)), atol=1e-12, rtol=0)


def test_the_wake_phase_weighs_the_particles_of_each_datum():
    """A batch of 7 has the mean gradient of 7 batches of 1."""
    pair = BeliefNet()
    x = torch.bernoulli(torch.full((7, 4), 0.5))
    params = list(pair.parameters())
    hand = torch.bernoulli(torch.full((5, 7, BITS), 0.5))
    Dealt.hand = hand
    together = loss_and_gradient(pair, Wake(5), x, params)
    alone = []
    for n in range(7):
        Dealt.hand = hand[:, n : n + 1]
        alone.append(loss_and_gradient(pair, Wake(5), x[n : n + 1], params))
    torch.testing.assert_close(together[0], torch.stack([loss for loss, _ in alone]).mean())
    torch.testing.assert_close(together[1], torch.stack([grad for _, grad in alone]).mean(0))


def test_the_wake_phase_lets_no_gradient_through_the_draws():
    pair, x = Chain(off=0.1), torch.randn(5)
    params = list(pair.encoder.values())
    _, found = loss_and_gradient(pair, Wake(), x, params)
    assert not found.any()
    _, found = loss_and_gradient(pair, Wake(4, guide=False), x, params)
    assert not found.any()
    _, found = loss_and_gradient(pair, Wake(4), x, params)
    assert found.all()
    with pytest.raises(ValueError, match="give 2 or more"):
        Wake(1, guide=True)


def test_free_bits_and_capacity_are_terms():
    pair, x = Chain(off=0.1), torch.randn(5)
    params = list(pair.parameters())
    awake = Phases(pair.model, pair.guide, (x,)).awake
    plain = loss_and_gradient(pair, ELBO(), x, params)
    free = loss_and_gradient(pair, ELBO() + FreeBits(0.0), x, params)
    torch.testing.assert_close(plain, free)
    above = loss_and_gradient(pair, ELBO() + FreeBits(1e3), x, params)
    reconstruction = loss_and_gradient(pair, Reconstruction(), x, params)
    torch.testing.assert_close(above[0], reconstruction[0] + 2e3)
    torch.testing.assert_close(above[1], reconstruction[1])
    one = loss_and_gradient(pair, ELBO() + FreeBits(1e3, "z1"), x, params)
    assert not torch.allclose(one[1], above[1])
    torch.manual_seed(0)
    drawn = Phases(pair.model, pair.guide, (x,)).awake
    kl = sum(rate(drawn, n) for n in ("z1", "z2"))
    torch.manual_seed(0)
    held = Capacity(3.0, 10.0)(pair.model, pair.guide, x)
    torch.testing.assert_close(held, 10 * (kl - 3).abs() - kl)
    assert awake.latents == ("z1", "z2")
    with pytest.raises(ValueError, match="'z' is no latent; the latents are z1, z2"):
        FreeBits(1.0, "z")(pair.model, pair.guide, x)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_enumeration_is_the_exact_bound(name):
    """With one discrete latent all bounds but the ELBO are log p(x); its gradient is exact."""
    pair, x = BeliefNet(), torch.bernoulli(torch.full((5, 4), 0.5))
    params = list(pair.parameters())
    Dealt.hand = torch.zeros(1, BITS)
    hands = torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)))
    every = Phases(pair.model, pair.guide, (x,), particles=8, latents={"z": hands.unsqueeze(1)})
    joint, q = every.awake.log_p(), every.awake.log_q()
    for k in (1, 2):
        loss = OBJECTIVES[name](k, "enumerate")(pair.model, pair.guide, x)
        power = {"elbo": 0.0, "iwae": 1.0, "renyi": 0.5}[name]
        if power:
            exact = (q + power * (joint - q)).logsumexp(0) / power
        else:
            exact = (q.exp() * (joint - q)).sum(0)
        torch.testing.assert_close(loss, -exact.mean())
        found, expected = (
            flat(torch.autograd.grad(v, params, retain_graph=True)) for v in (loss, -exact.mean())
        )
        torch.testing.assert_close(found, expected)
        with torch.no_grad():
            again = OBJECTIVES[name](k, "enumerate")(pair.model, pair.guide, x)
        torch.testing.assert_close(again, loss.detach())
    if name == "iwae":
        torch.testing.assert_close(loss, -joint.logsumexp(0).mean())


class Mixed(nn.Module):
    """A class, a code of it, and data: one latent is enumerated, the other drawn."""

    def __init__(self, mark=False):
        super().__init__()
        torch.manual_seed(1)
        self.means, self.mark = nn.Parameter(torch.randn(3, 2)), mark
        self.net, self.code = nn.Linear(2, 3), nn.Linear(2, 2)

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=torch.zeros(3)))
            z = pyro.sample("z", dist.Normal(self.means[c], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(self, x):
        infer = {"enumerate": "parallel"} if self.mark else {}
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=self.net(x)), infer=infer)
            pyro.sample("z", dist.Normal(self.code(x) + self.means[c], 0.4).to_event(1))


def test_a_mixed_pair_has_one_mean_gradient_by_every_estimator():
    x = torch.randn(1, 2).expand(600, -1)
    found = {}
    for gradient in ("enumerate", "score"):
        pair = Mixed()
        torch.manual_seed(2)
        draws = [loss_of(ELBO(particles=4, gradient=gradient), pair, x) for _ in range(50)]
        draws = torch.stack(draws)
        found[gradient] = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    (a, sa), (b, sb) = found.values()
    assert ((a - b).abs() < 4 * (sa**2 + sb**2).sqrt() + 1e-9).all()
    assert sa.norm() < sb.norm()


def loss_of(objective, pair, x):
    loss = objective(pair.model, pair.guide, x)
    return flat(torch.autograd.grad(loss, list(pair.parameters())))


def test_a_site_may_ask_for_enumeration_itself():
    """By Pyro's own mark; Pyro's enumerating ELBO has the same mean."""
    x, pair = torch.randn(6, 2), Mixed(mark=True)
    torch.manual_seed(0)
    found = ELBO(particles=2000)(pair.model, pair.guide, x)
    theirs = TraceEnum_ELBO(num_particles=2000, vectorize_particles=True, max_plate_nesting=1)
    torch.manual_seed(0)
    with pyro.validation_enabled(False):
        assert found.item() == pytest.approx(theirs.loss(pair.model, pair.guide, x) / 6, abs=0.02)
    with pytest.raises(ValueError, match="no reparameterised samples"):
        ELBO()(Mixed().model, Mixed().guide, x)


def test_what_cannot_be_enumerated_is_refused():
    def model(x, wide):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.full((wide,), 0.5)).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    w = nn.Parameter(torch.zeros(()))

    def guide(x, wide):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=w.expand(wide)).to_event(1))

    x = torch.randn(3)
    objective = ELBO(gradient="enumerate")
    assert objective(partial(model, wide=3), partial(guide, wide=3), x).isfinite()
    with pytest.raises(ValueError, match=r"8,192 combinations of values .* more than the 4,096"):
        objective(partial(model, wide=13), partial(guide, wide=13), x)


def test_several_bounds_have_the_known_limits():
    pair, x = Chain(off=0.2), torch.randn(5)
    params = list(pair.parameters())
    k = 6
    for one, other in (
        (MIWAE(k, groups=1), IWAE(k)),
        (MIWAE(k, groups=k), ELBO(particles=k)),
        (PIWAE(k, groups=1), IWAE(k, gradient="dreg")),
        (CIWAE(1.0, k), ELBO(particles=k)),
        (CIWAE(0.0, k), IWAE(k)),
    ):
        torch.testing.assert_close(
            loss_and_gradient(pair, one, x, params), loss_and_gradient(pair, other, x, params)
        )
    mean = loss_and_gradient(pair, MIWAE(k, groups=2), x, params)[0]
    halves = Phases(pair.model, pair.guide, (x,), particles=k)
    torch.manual_seed(0)
    weights = halves.awake.log_weight().exp()
    by_hand = -torch.stack([h.mean(0).log() for h in weights.chunk(2)]).mean()
    torch.testing.assert_close(mean, by_hand)
    with pytest.raises(ValueError, match="6 particles are no 4 groups of equal size"):
        MIWAE(6, groups=4)


def test_the_model_and_the_guide_learn_by_bounds_of_their_own():
    pair, x = Chain(off=0.2), torch.randn(5)
    model, guide = [pair.s], list(pair.encoder.values())
    value, of_model = loss_and_gradient(pair, PIWAE(6, groups=3), x, model)
    torch.testing.assert_close(value, loss_and_gradient(pair, IWAE(6), x, model)[0])
    torch.testing.assert_close(of_model, loss_and_gradient(pair, IWAE(6), x, model)[1])
    x = torch.tensor(1.0).expand(40)
    means = []
    for objective in (PIWAE(6, groups=3), MIWAE(6, groups=3)):
        torch.manual_seed(3)
        draws = []
        for _ in range(300):
            loss = objective(pair.model, pair.guide, x)
            draws.append(flat(torch.autograd.grad(loss, guide)))
        draws = torch.stack(draws)
        means.append((draws.mean(0), draws.std(0) / len(draws) ** 0.5))
    (a, sa), (b, sb) = means
    assert ((a - b).abs() < 4 * (sa**2 + sb**2).sqrt()).all()


def test_tails_weigh_by_their_ranks_alone():
    """The largest of four weights counts four times the smallest."""
    pair, x = Chain(off=0.2), torch.tensor([1.0])
    torch.manual_seed(5)
    found = guide_gradient(pair, ELBO(particles=4, gradient="tail-adaptive"), x)
    torch.manual_seed(5)
    phases = Phases(pair.model, pair.guide, (x,), particles=4)
    fixed = phases.by_constants(leaves=False)
    weights = fixed.log_weight()[:, 0]
    order = weights.argsort(descending=True)
    share = torch.empty(4)
    share[order] = torch.tensor([4.0, 2.0, 4 / 3, 1.0])
    share = share / share.sum()
    loss = -(share * weights).sum()
    by_hand = flat(torch.autograd.grad(loss, list(pair.encoder.values())))
    torch.testing.assert_close(found, by_hand)


def test_the_page_names_every_objective_and_estimator():
    """Those that are no bound, rate or phase have pages of their own."""
    page = (Path(__file__).parents[1] / "docs" / "objectives.md").read_text()
    elsewhere = {"adversarial", "match", "reconstruction", "classification", "kl"}
    for name, kind in objectives.OBJECTIVES.items():
        assert name in elsewhere or f"`{kind.__name__}(" in page
    for name in objectives.GRADIENTS:
        assert f"| `{name}` |" in page
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    exec(code.replace("epochs=1", "steps=2, valid_every=0"), {})


@pytest.mark.parametrize("name", objectives.GRADIENTS)
def test_every_estimator_trains_the_pairs_that_it_suits(name):
    torch.set_default_dtype(torch.float32)
    data = Data.named("digits", rows=64)
    pairs = (VAE(encoder=MLP((4,)), decoder=MLP((4,)), latent=2), HelmholtzMachine((4, 2)))
    losses, refusals = [], []
    for pair in pairs:
        try:
            run = fit(pair, ELBO(particles=2, gradient=name), data, steps=2, valid_every=0)
        except ValueError as error:
            refusals.append(str(error))
        else:
            losses.append(run.history[-1]["loss"])
    assert losses
    assert all(0 < loss < 100 for loss in losses)
    assert all("no reparameterised samples" in text for text in refusals)


class Slopes(nn.Module):
    """Bits and a code of three values, and a log likelihood that is linear in them."""

    def __init__(self, distribution=OneHot):
        super().__init__()
        torch.manual_seed(1)
        self.bits, self.code = (nn.Parameter(torch.randn(n)) for n in (2, 3))
        self.slopes = nn.Parameter(torch.randn(5))
        self.distribution = distribution

    def model(self, x):
        pyro.module("slopes", self)
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=self.slopes[:2]).to_event(1))
            c = pyro.sample("c", OneHot(logits=self.slopes[2:]))
            total = (torch.cat([b, c], -1) * self.slopes).sum(-1)
            pyro.sample("x", dist.Unit(total * x), obs=torch.empty(0))

    def guide(self, x):
        pyro.module("slopes", self)
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=self.bits).to_event(1))
            pyro.sample("c", self.distribution(logits=self.code))


def test_straight_through_is_exact_where_the_log_likelihood_is_linear():
    pair, x = Slopes(), torch.tensor([0.7])
    params = list(pair.parameters())
    q = torch.cat([pair.bits.sigmoid(), pair.code.softmax(-1)])
    p = torch.cat([pair.slopes[:2].sigmoid(), pair.slopes[2:].softmax(-1)])
    bits = [torch.distributions.Bernoulli(s[:2]) for s in (q, p)]
    codes = [torch.distributions.Categorical(s[2:]) for s in (q, p)]
    kl = sum(torch.distributions.kl_divergence(*both).sum() for both in (bits, codes))
    exact = flat(torch.autograd.grad(kl - 0.7 * (q * pair.slopes).sum(), params))
    many = x.expand(20_000)
    loss = ELBO(gradient="straight-through")(pair.model, pair.guide, many)
    found = flat(torch.autograd.grad(loss, params))
    torch.testing.assert_close(found, exact, atol=0.03, rtol=0)


def test_straight_through_keeps_the_value_of_whole_draws():
    pair, x = Slopes(), torch.ones(2)
    for make in OBJECTIVES.values():
        losses = []
        for gradient in ("straight-through", "score"):
            torch.manual_seed(3)
            losses.append(make(2, gradient)(pair.model, pair.guide, x))
        torch.testing.assert_close(*losses, atol=1e-12, rtol=0)
        grads = torch.autograd.grad(losses[0], list(pair.parameters()))
        assert all(bool(g.isfinite().all()) for g in grads)


def test_straight_through_refuses_what_has_no_slope():
    pair = Slopes(dist.OneHotCategorical)
    with pytest.raises(ValueError, match=r"of bits and one-hot codes .*'c' is OneHotCat"):
        ELBO(gradient="straight-through")(pair.model, pair.guide, torch.ones(2))


class Twins:
    """Deals antithetic bits from outside, and knows how likely they were."""

    def __init__(self, monkeypatch):
        self.hands, self.log_probability = [], 0.0
        monkeypatch.setattr("priory.inference.phases.antithetic.antithetic", self)

    def deal(self, *hands):
        self.hands, self.log_probability = list(hands), 0.0

    def __call__(self, logits):
        first, twin = self.hands.pop(0)
        p = logits.detach().sigmoid()
        same = torch.where(first == (p > 0.5), (2 * p - 1).abs(), 0.0)
        apart = torch.minimum(p, 1 - p)
        self.log_probability += torch.where(first == twin, same, apart).log().sum()
        return first.expand_as(logits), twin.expand_as(logits)


def tuples(bits, k):
    """All values of k particles' bits, each `(k, 1, bits)`."""
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=bits)))
    return [torch.stack(hand).unsqueeze(1) for hand in itertools.product(every, repeat=k)]


def pairs_of(bits, k):
    return itertools.product(tuples(bits, k), repeat=2)


@pytest.mark.parametrize(("k", "bits"), [(1, BITS), (2, 2)])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_mean_over_all_antithetic_pairs_is_the_gradient_of_the_mean(name, k, bits, monkeypatch):
    """Over all outcomes of the K pairs, by their exact probabilities; the bound's mean as well."""
    pair, x = BeliefNet(bits), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    params, twins = list(pair.parameters()), Twins(monkeypatch)
    Dealt.hand = torch.zeros(1, bits)
    mean, value = 0.0, 0.0
    for hand in pairs_of(bits, k):
        twins.deal(hand)
        loss = OBJECTIVES[name](k, "disarm")(pair.model, pair.guide, x)
        probability = twins.log_probability.exp()
        if probability:
            mean = mean + probability * flat(torch.autograd.grad(loss, params))
            value = value + probability * loss.detach()
    exact = 0.0
    for hand in tuples(bits, k):
        Dealt.hand = hand if k > 1 else hand[0]
        phases = Phases(pair.model, pair.guide, (x,), particles=k)
        exact = exact + phases.awake.log_q("z").sum().exp() * bound_of(phases, name)
    torch.testing.assert_close(value, exact.detach(), atol=1e-12, rtol=0)
    expected = flat(torch.autograd.grad(exact, params))
    torch.testing.assert_close(mean, expected, atol=1e-10, rtol=0)
    assert expected.abs().max() > 0.01


class Below(Dealt):
    """The draws of the last layer's twins; all others are dealt as pairs."""

    def expand(self, shape, _instance=None):
        return dist.Bernoulli.expand(self, shape, self._get_checked_instance(Below, _instance))

    def sample(self, sample_shape=()):
        shape = sample_shape + self.batch_shape
        return Below.hand.expand(shape) if len(shape) > 2 else torch.zeros(shape)


class TwoLayers(nn.Module):
    """A layer of bits, one bit that the guide draws after it, and data."""

    def __init__(self, bits):
        super().__init__()
        torch.manual_seed(3)
        self.prior, self.down = nn.Parameter(torch.randn(1)), nn.Linear(1, bits)
        self.decoder, self.encoder = nn.Linear(bits, 4), nn.Linear(4, bits)
        self.up = nn.Linear(bits, 1)

    def model(self, x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", Below(logits=self.prior.expand(len(x), -1)).to_event(1))
            a = pyro.sample("a", Below(logits=self.down(b)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(a)).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", Below(logits=self.encoder(x)).to_event(1))
            pyro.sample("b", Below(logits=self.up(a)).to_event(1))


@pytest.mark.parametrize(
    ("name", "k", "bits"), [*((name, 1, 2) for name in OBJECTIVES), ("iwae", 2, 1)]
)
def test_a_chain_of_layers_has_twins_of_each(name, k, bits, monkeypatch):
    """Over all outcomes: pairs in either layer, and what the first layer's twins draw below."""
    pair, x = TwoLayers(bits), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    params, twins = list(pair.parameters()), Twins(monkeypatch)
    mean = 0.0
    for above, last, below in itertools.product(pairs_of(bits, k), pairs_of(1, k), tuples(1, k)):
        twins.deal(above, last)
        Below.hand = below.repeat(3, 1, 1)
        loss = OBJECTIVES[name](k, "disarm")(pair.model, pair.guide, x)
        drawn = dist.Bernoulli(logits=pair.up(above[1])).log_prob(below).sum()
        probability = (twins.log_probability + drawn).exp().detach()
        if probability:
            mean = mean + probability * flat(torch.autograd.grad(loss, params))
    exact = 0.0
    for a, b in itertools.product(tuples(bits, k), tuples(1, k)):
        phases = Phases(pair.model, pair.guide, (x,), particles=k, latents={"a": a, "b": b})
        exact = exact + phases.awake.log_q().sum().exp() * bound_of(phases, name)
    expected = flat(torch.autograd.grad(exact, params))
    torch.testing.assert_close(mean, expected, atol=1e-10, rtol=0)
    assert expected.abs().max() > 0.01


def test_antithetic_twins_are_draws_of_the_same_bits():
    pair, x = TwoLayers(3), torch.bernoulli(torch.full((400, 4), 0.5))
    Below.hand = torch.zeros(1, 1, 1)
    awake = Phases(pair.model, pair.guide, (x,), particles=50).antithetic
    a, b = (awake.guide_sites[n]["value"].unflatten(0, (3, 50)) for n in ("a", "b"))
    p = pair.encoder(x).sigmoid().detach()
    assert torch.equal(a[0], a[2])
    assert (a[0] != a[1]).double().mean() == pytest.approx(
        float(2 * torch.minimum(p, 1 - p).mean()), abs=0.01
    )
    for draws in a[:2]:
        torch.testing.assert_close(draws.mean(0), p, atol=0.4, rtol=0)
        torch.testing.assert_close(draws.mean((0, 1)), p.mean(0), atol=0.02, rtol=0)
    assert not b[1].any()  # as it was dealt
    torch.testing.assert_close(
        b[2].mean(), pair.up(a[0]).sigmoid().mean().detach(), atol=0.02, rtol=0
    )


def test_disarm_is_of_bits():
    pair, x = Mixed(), torch.randn(2, 2)
    with pytest.raises(ValueError, match="'disarm' is of bits, and the guide's 'c' is Categorical"):
        ELBO(gradient="disarm")(pair.model, pair.guide, x)
    normal = Chain()
    phases = Phases(normal.model, normal.guide, (torch.randn(5),), particles=2)
    assert phases.antithetic is phases.awake
    dropping = BeliefNet()
    dropping.encoder = nn.Sequential(nn.Dropout(0.5), dropping.encoder)
    Dealt.hand = torch.zeros(1, BITS)
    with pytest.raises(ValueError, match="dropout would not be the same"):
        ELBO(gradient="disarm")(dropping.model, dropping.guide, torch.ones(2, 4))


class Shared(nn.Module):
    """A point mass of all data, a factor, and a latent of each datum."""

    def __init__(self):
        super().__init__()
        self.a, self.w = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.5))

    def model(self, x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.factor("f", -(self.a**2))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(w, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        pyro.sample("w", dist.Delta(self.w))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.a * x, 0.7))


def test_what_all_data_share_counts_once_or_is_refused():
    pair, x = Shared(), torch.randn(6)
    for objective in (ELBO, lambda gradient: IWAE(3, gradient=gradient)):
        for gradient in ("score", "stl"):
            found, expected = (
                loss_and_gradient(pair, objective(gradient=g), x, [pair.w])
                for g in (gradient, "pathwise")
            )
            torch.testing.assert_close(found, expected)
        for gradient in ("dreg", "tail-adaptive"):
            with pytest.raises(ValueError, match="'w' outside of the batch plate"):
                objective(gradient=gradient)(pair.model, pair.guide, x)
    for other in (PIWAE(4, groups=2), Wake()):
        with pytest.raises(ValueError, match="'w' outside of the batch plate"):
            other(pair.model, pair.guide, x)
    for gradient in ("stl", "score"):
        with pytest.raises(ValueError, match="a beta other than 1 has the pathwise gradient"):
            ELBO(0.5, gradient=gradient)(pair.model, pair.guide, x)


def test_a_marked_site_is_enumerated_under_any_beta():
    pair, x = Mixed(mark=True), torch.randn(6, 2)
    for beta in (0.5, Linear(0.5, 0.5, 1)):
        torch.manual_seed(0)
        marked = ELBO(beta)(pair.model, pair.guide, x)
        torch.manual_seed(0)
        asked = ELBO(beta, gradient="enumerate")(pair.model, pair.guide, x)
        torch.testing.assert_close(marked, asked)
