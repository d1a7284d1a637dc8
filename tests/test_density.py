"""What a density is: local and shared sites, scales, masks, weights, auxiliary sites."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiagonalNormal, AutoIAFNormal, AutoNormal
from torch.distributions import kl_divergence

from priory import evaluate, fit
from priory.data import Data
from priory.divergences import mmd
from priory.inference import (
    ELBO,
    IWAE,
    KL,
    SVI,
    Adversarial,
    Classification,
    Match,
    Phases,
    Reconstruction,
    Renyi,
)

pytestmark = pytest.mark.usefixtures("double")

K, GAMMA = 4, 2.5
SD_Q, SD_X = 0.6, 0.7


@pytest.fixture
def x():
    return torch.tensor([0.3, -1.2, 0.8, 2.0, -0.5])


def model(x, latent=1.0, likelihood=1.0, mask=True):
    with pyro.plate("data", len(x), dim=-1):
        with poutine.scale(scale=latent), poutine.mask(mask=mask):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        with poutine.scale(scale=likelihood):
            pyro.sample("x", dist.Normal(z, SD_X), obs=x)


def guide(x, latent=1.0, mask=True):
    with pyro.plate("data", len(x), dim=-1), poutine.scale(scale=latent), poutine.mask(mask=mask):
        pyro.sample("z", dist.Normal(0.5 * x, SD_Q))


def rows_model(x, latent=1.0, likelihood=1.0):
    """The same, of data of shape (n, 1)."""
    with pyro.plate("data", len(x), dim=-1):
        with poutine.scale(scale=latent):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        with poutine.scale(scale=likelihood):
            pyro.sample("x", dist.Normal(z[..., None], SD_X).to_event(1), obs=x)


def rows_guide(x, latent=1.0):
    guide(x[:, 0], latent)


def seeded(objective, *pair, **columns):
    pyro.set_rng_seed(3)
    return objective(*pair, **columns)


def log_densities(x, k=K):
    """log p(x | z), log p(z) and log q(z | x) of the draws of a program with the same seed."""
    pyro.set_rng_seed(3)
    z = dist.Normal(0.5 * x, SD_Q).sample((k,) if k > 1 else ())
    pairs = ((dist.Normal(z, SD_X), x), (dist.Normal(0.0, 1.0), z), (dist.Normal(0.5 * x, SD_Q), z))
    return [distribution.log_prob(value) for distribution, value in pairs]


def bound_of(log_weight, alpha=0.0):
    return (((1 - alpha) * log_weight).logsumexp(0) - math.log(len(log_weight))) / (1 - alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_scaled_likelihood_is_scaled_inside_of_the_logarithm(x, alpha):
    objective = IWAE(K) if alpha == 0 else Renyi(alpha, K)
    loss = seeded(objective, partial(model, likelihood=GAMMA), guide, x=x)
    likelihood, prior, posterior = log_densities(x)
    expected = -bound_of(GAMMA * likelihood + prior - posterior, alpha).mean()
    torch.testing.assert_close(loss, expected)


def test_a_scaled_likelihoods_bound_is_that_of_its_own_evidence(x):
    """For large K the bound is log of the integral of p(x | z)^gamma p(z), by quadrature."""
    z = torch.linspace(-8, 8, 4001)
    integrand = GAMMA * dist.Normal(z, SD_X).log_prob(x[:, None]) + dist.Normal(0.0, 1.0).log_prob(
        z
    )
    exact = (integrand.logsumexp(1) + math.log(16 / 4000)).mean()
    loss = seeded(IWAE(20000), partial(model, likelihood=GAMMA), guide, x=x)
    assert abs(loss + exact) < 0.01


@pytest.mark.parametrize("full", [2, 20])
def test_an_inner_subsampled_plate_scales_inside_of_the_logarithm(full):
    x = torch.randn(2, 5)

    def pixels(x):
        with pyro.plate("data", 5, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("pixels", full, subsample=torch.arange(2), dim=-2):
                pyro.sample("x", dist.Normal(z, SD_X), obs=x)

    def seen(x):
        with pyro.plate("data", 5, dim=-1):
            pyro.sample("z", dist.Normal(x.mean(0), SD_Q))

    pyro.set_rng_seed(3)
    phases = Phases(pixels, seen, (x,), particles=K)
    loss, z = IWAE(K).loss(phases), phases.awake.sample["z"].reshape(K, 5)
    log_weight = full / 2 * dist.Normal(z[:, None], SD_X).log_prob(x).sum(1)
    log_weight += dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(x.mean(0), SD_Q).log_prob(z)
    torch.testing.assert_close(loss, -bound_of(log_weight).mean())


@pytest.mark.parametrize("objective", [ELBO(), ELBO(0.5), ELBO(analytic_kl=True), KL(), IWAE(K)])
def test_weights_of_rows_stand_outside_of_the_logarithm(x, objective):
    """sum_i w_i L(x_i) / n: rows of weight 0 do not count, one of weight 2 counts twice."""
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0])
    rows = torch.tensor([0, 2, 2, 3, 4])
    k = objective.particles
    weighted = seeded(objective, model, guide, x=x, weight=weight)
    likelihood, prior, posterior = log_densities(x, k)
    kl = kl_divergence(dist.Normal(0.5 * x, SD_Q), dist.Normal(0.0, 1.0))
    expected = {
        ELBO: -likelihood + getattr(objective, "beta", 1) * (posterior - prior),
        KL: posterior - prior,
        IWAE: -bound_of((likelihood + prior - posterior).reshape(k, -1)),
    }[type(objective)]
    if getattr(objective, "analytic_kl", False):
        expected = kl - likelihood
    torch.testing.assert_close(weighted, expected[rows].mean())


def test_weights_do_not_depend_on_a_second_observed_site(x):
    def two(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, SD_X), obs=x)
            pyro.sample("y", dist.Normal(z, 1.0), obs=x + 1)

    weight = torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0])
    pyro.set_rng_seed(3)
    phases = Phases(two, guide, columns={"x": x, "weight": weight}, particles=K)
    loss, z = IWAE(K).loss(phases), phases.awake.sample["z"]
    log_weight = dist.Normal(z, SD_X).log_prob(x) + dist.Normal(z, 1.0).log_prob(x + 1)
    log_weight += dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(0.5 * x, SD_Q).log_prob(z)
    torch.testing.assert_close(loss, -(weight * bound_of(log_weight)).mean())


def test_rows_weighted_by_scale_are_refused_inside_of_a_logarithm(x):
    weight = torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0])
    pair = poutine.scale(model, scale=weight), poutine.scale(guide, scale=weight)
    with pytest.raises(ValueError, match="column 'weight'"):
        IWAE(K)(pair[0], pair[1], x)
    likelihood, prior, posterior = log_densities(x, 1)
    expected = (weight * (posterior - prior - likelihood)).mean()
    torch.testing.assert_close(
        seeded(ELBO(), lambda x: pair[0](x), lambda x: pair[1](x), x=x), expected
    )


def test_sets_of_samples_refuse_weights(x):
    for term in (Match(mmd, "z"), Adversarial(torch.nn.Linear(1, 1), "z")):
        with pytest.raises(ValueError, match="sets of samples, which have no weights"):
            term(model, guide, x=x, weight=torch.ones(5))


def test_weights_of_a_classification():
    logits = torch.randn(4, 3)

    def labels(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.Categorical(logits=logits))

    y, weight = torch.tensor([0, 2, 1, 1]), torch.tensor([1.0, 0.0, 2.0, 1.0])
    cost = -logits.log_softmax(-1)[torch.arange(4), y]
    columns = {"x": torch.zeros(4), "y": y, "weight": weight}
    loss = Classification("c")(labels, labels, **columns)
    torch.testing.assert_close(loss, (cost * weight).mean())


def test_weights_reach_the_validation_bound(x):
    """A run's bound is that of the rows by their weights."""

    def known(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0), obs=x[:, 0])

    rows, weight = torch.randn(60, 1), torch.rand(60) * 2
    data = Data.from_arrays(x=rows, weight=weight, valid=20, test=0)
    run = fit((known, lambda x: None), ELBO(), data, steps=1, lr=1e-12, valid_particles=1)
    log_p = dist.Normal(0.0, 1.0).log_prob(data.valid.columns["x"][:, 0])
    expected = float((log_p * data.valid.columns["weight"]).mean())
    assert run.history[-1]["bound"] == pytest.approx(expected, abs=1e-5)


def factored(x, w):
    """One datum's share of a penalty outside of the plate, and of a latent that all data share."""
    pyro.factor("penalty", -3 * w**2)
    u = pyro.sample("u", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(u, 1.0))
        pyro.sample("x", dist.Normal(w * z, 1.0), obs=x)


def seen_by(x):
    pyro.sample("u", dist.Normal(0.3, 0.15))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.5 * x, 0.5))


@pytest.mark.parametrize("beta", [1.0, 1.0000001, 0.9, 0.0])
@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.0, 2.0, 0.5, 0.5])])
def test_a_shared_term_enters_once_by_its_share(x, beta, analytic, weight):
    w = torch.tensor(0.8, requires_grad=True)
    columns = {"x": x} if weight is None else {"x": x, "weight": weight}
    objective = ELBO(beta, analytic_kl=analytic)
    loss = seeded(objective, partial(factored, w=w), seen_by, **columns)
    pyro.set_rng_seed(3)
    distributions = dist.Normal(0.3, 0.15), dist.Normal(0.5 * x, 0.5)
    u, z = (distribution.sample() for distribution in distributions)
    kl_u = distributions[0].log_prob(u) - dist.Normal(0.0, 1.0).log_prob(u)
    kl_z = distributions[1].log_prob(z) - dist.Normal(u, 1.0).log_prob(z)
    if analytic:
        kl_u = kl_divergence(distributions[0], dist.Normal(0.0, 1.0))
        kl_z = kl_divergence(distributions[1], dist.Normal(u, 1.0))
    local = beta * kl_z - dist.Normal(w * z, 1.0).log_prob(x)
    expected = (local * (1 if weight is None else weight)).mean() + (beta * kl_u + 3 * w**2) / len(
        x
    )
    torch.testing.assert_close(loss, expected)
    found, exact = (torch.autograd.grad(value, w)[0] for value in (loss, expected))
    torch.testing.assert_close(found, exact)


def test_terms_of_shared_sites_add_up_to_the_elbo(x):
    pair = partial(factored, w=torch.tensor(0.8)), seen_by
    parts = Reconstruction() + Reconstruction("penalty") + KL()
    torch.testing.assert_close(seeded(parts, *pair, x=x), seeded(ELBO(), *pair, x=x))


def test_a_pair_that_observes_nothing_has_its_divergence_alone(x):
    def empty(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0))

    exact = kl_divergence(dist.Normal(0.5 * x, SD_Q), dist.Normal(x, 1.0)).mean()
    torch.testing.assert_close(ELBO(analytic_kl=True)(empty, guide, x), exact)
    torch.testing.assert_close(ELBO(0.5, analytic_kl=True)(empty, guide, x), 0.5 * exact)
    torch.testing.assert_close(
        seeded(ELBO(1.0 + 1e-9), empty, guide, x=x), seeded(ELBO(), empty, guide, x=x)
    )


@pytest.mark.parametrize("latent", [1.0, 0.2])
@pytest.mark.parametrize("masked", [False, True])
def test_closed_forms_carry_scale_and_mask(x, latent, masked):
    mask = torch.tensor([True, False, True, False, True]) if masked else True
    pair = partial(model, latent=latent, mask=mask), partial(guide, latent=latent, mask=mask)
    kl = latent * kl_divergence(dist.Normal(0.5 * x, SD_Q), dist.Normal(0.0, 1.0))
    expected = (kl * mask if masked else kl).mean()
    torch.testing.assert_close(KL(analytic=True)(*pair, x), expected)
    likelihood = log_densities(x, 1)[0]
    loss = seeded(ELBO(analytic_kl=True), *pair, x=x)
    torch.testing.assert_close(loss, expected - likelihood.mean())


def test_closed_forms_are_left_out_where_the_two_sites_weigh_differently(x):
    """Then log q - log p is no divergence, and its sampled value is the bound's term."""
    masks = torch.tensor([True, False, True, False, True]), torch.tensor([True] * 5)
    for pair in (
        (partial(model, latent=0.2), guide),
        (model, partial(guide, latent=0.2)),
        (partial(model, mask=masks[0]), partial(guide, mask=masks[1])),
        (partial(model, mask=masks[0]), guide),
    ):
        assert Phases(*pair, (x,)).awake.kl("z") is None
        sampled = seeded(ELBO(), *pair, x=x)
        torch.testing.assert_close(seeded(ELBO(analytic_kl=True), *pair, x=x), sampled)


def test_a_shared_latents_closed_form_does_not_raise_the_variance():
    n = 200
    x = 5 * torch.randn(n)
    m = torch.tensor(0.2, requires_grad=True)

    def location(x):
        u = pyro.sample("u", dist.Normal(0.0, 1.0))
        with pyro.plate("data", n, dim=-1):
            pyro.sample("x", dist.Normal(u, 5.0), obs=x)

    def seen(x):
        pyro.sample("u", dist.Normal(m, 0.15))

    loss = seeded(ELBO(analytic_kl=True), location, seen, x=x)
    pyro.set_rng_seed(3)
    u = dist.Normal(m, 0.15).rsample()
    kl = kl_divergence(dist.Normal(m, 0.15), dist.Normal(0.0, 1.0))
    expected = kl / n - dist.Normal(u, 5.0).log_prob(x).mean()
    torch.testing.assert_close(loss, expected)


def test_a_point_mass_keeps_its_change_of_variables(x):
    """KL(Delta, p) in closed form would leave the Jacobian of Pyro's autoguides out."""

    def rates(x):
        with pyro.plate("data", len(x), dim=-1):
            r = pyro.sample("r", dist.Gamma(2.0 * torch.ones(len(x)), 3.0))
            pyro.sample("x", dist.Exponential(r), obs=x)

    auto = AutoNormal(rates)
    auto(x.abs())
    assert Phases(rates, auto, (x.abs(),)).awake.kl("r") is None
    losses = [seeded(ELBO(analytic_kl=flag), rates, auto, x=x.abs()) for flag in (False, True)]
    torch.testing.assert_close(*losses)


def positive_rates(x):
    with pyro.plate("data", len(x), dim=-1):
        r = pyro.sample("r", dist.LogNormal(torch.zeros(len(x)), 1.0))
        pyro.sample("x", dist.Exponential(r), obs=x)


@pytest.mark.parametrize("k", [1, K])
def test_latents_that_are_functions_of_auxiliary_sites_have_exact_weights(x, k):
    """An autoguide's normal in real space is a log normal: the weights are those of one."""
    auto = AutoNormal(positive_rates, init_scale=0.3)
    x = x.abs()
    auto(x)
    phases = Phases(positive_rates, auto, (x,), particles=k)
    assert phases.awake.no_bound() == ""
    r = phases.awake.sample["r"]
    q = dist.LogNormal(auto.locs.r, auto.scales.r)
    log_weight = dist.LogNormal(0.0, 1.0).log_prob(r) + dist.Exponential(r).log_prob(x)
    torch.testing.assert_close(phases.awake.log_weight(), log_weight - q.log_prob(r))
    bound = -(log_weight - q.log_prob(r)).logsumexp(0) + math.log(k)
    torch.testing.assert_close(IWAE(k).loss(phases), bound.mean())


@pytest.mark.parametrize("auto", [AutoDiagonalNormal, AutoIAFNormal])
def test_latents_drawn_jointly_are_functions_of_their_auxiliary_site(x, auto):
    program = auto(positive_rates)
    program(x.abs())
    assert Phases(positive_rates, program, (x.abs(),)).awake.no_bound() == ""


@pytest.mark.parametrize("objective", [IWAE(K), Renyi(0.5, K)])
def test_particles_that_no_datum_has_are_refused(x, objective):
    """An objective of K samples must not quietly be one of a single sample."""

    def location(x):
        u = pyro.sample("u", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(u, 5.0), obs=x)

    def seen(x):
        pyro.sample("u", dist.Normal(0.2, 0.15))

    joint = AutoDiagonalNormal(positive_rates)
    joint(x.abs())
    for pair in ((location, seen), (positive_rates, joint)):
        with pytest.raises(ValueError, match="outside of the batch plate"):
            objective(*pair, x.abs())


class Normalised(torch.nn.Module):
    """A pair whose decoder normalises over a batch, or over each row."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.last = torch.nn.Linear(1, 3), norm, torch.nn.Linear(3, 1)

    def model(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            h = self.first(z)
            h = self.norm(h.flatten(0, -2)).reshape(h.shape)
            pyro.sample("x", dist.Normal(self.last(h), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(0.5 * x, SD_Q).to_event(1))


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm1d, torch.nn.LayerNorm])
def test_batch_normalisation_over_particles_is_found_out(norm):
    """In evaluation mode it is per datum; in training one particle's weight depends on all."""
    norm = norm(3)
    x, pair = torch.randn(8, 1), Normalised(norm)
    before = {n: b.clone() for n, b in norm.named_buffers()}
    adam = partial(torch.optim.Adam, lr=1e-3)
    batch = isinstance(norm, torch.nn.BatchNorm1d)
    if batch:
        with pytest.raises(ValueError, match="batch normalisation takes its means over the part"):
            SVI(pair.model, pair.guide, adam, IWAE(K)).step(x)
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
        assert norm.training
    else:
        SVI(pair.model, pair.guide, adam, IWAE(K)).step(x)
    SVI(pair.model, pair.guide, adam, ELBO()).step(x)


@pytest.mark.parametrize("distribution", [dist.Bernoulli(0.5), dist.Normal(0.0, 3.0)])
def test_auxiliary_sites_without_a_reverse_model_give_no_bound(distribution):
    x = 1.3 * torch.randn(40, 1)

    def mixed(x):
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", distribution, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(0.5 * x[:, 0] + 0.05 * a, SD_Q))

    with pytest.raises(ValueError, match=r"auxiliary site 'a'.*reverse model"):
        IWAE(K)(rows_model, mixed, x)
    names = ["nll", "elbo", "ess", "kl"]
    found = evaluate(pair_of(rows_model, mixed), {"x": x}, metrics=names, pictures=False)
    for name in names:
        assert found[name].value is None
        assert "reverse model" in found[name].note


@pytest.mark.parametrize("slope", [1.0, 2.0])
@pytest.mark.parametrize("declared", [False, True])
def test_a_point_mass_must_carry_its_jacobian_to_be_judged(slope, declared):
    """z = 2 a without the log of 2 would make the bound too high by it."""
    x = 1.3 * torch.randn(40, 1)

    def scaled(x):
        with pyro.plate("data", len(x), dim=-1):
            distribution = dist.Normal(0.5 * x[:, 0] / slope, SD_Q / slope)
            a = pyro.sample("a", distribution, infer={"is_auxiliary": True})
            density = torch.full_like(a, -math.log(slope) if declared else 0.0)
            pyro.sample("z", dist.Delta(slope * a, log_density=density))

    plain, found = (
        evaluate(pair_of(rows_model, q), {"x": x}, metrics=["nll"], pictures=False)["nll"]
        for q in (rows_guide, scaled)
    )
    if slope == 1 or declared:
        assert found.value == pytest.approx(plain.value, abs=1e-9)
    else:
        assert found.value is None
        assert "asks for -0.6931" in found.note


def test_a_training_with_such_a_site_prints_no_bound():
    def mixed(x):
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(0.0, 3.0), infer={"is_auxiliary": True})
            m = pyro.param("m", torch.tensor(0.0))
            pyro.sample("z", dist.Normal(m + 0.5 * x[:, 0] + 0.05 * a, SD_Q))

    data = Data.from_arrays(torch.randn(40, 1))
    run = fit((rows_model, mixed), ELBO(), data, steps=2, batch_size=8, progress=False)
    assert all(row.get("bound") is None for row in run.history)
    with pytest.raises(ValueError, match="reverse model"):
        fit((rows_model, mixed), IWAE(K), data, steps=2, batch_size=8, progress=False)


def pair_of(model, guide):
    return type("Two", (), {"model": staticmethod(model), "guide": staticmethod(guide)})


def test_evaluation_judges_the_model_without_its_training_scales():
    """Every number is that of the pair without `poutine.scale`, and says so."""
    x = 1.3 * torch.randn(30, 1)
    names = ["nll", "elbo", "ais", "bdmc", "kl", "khat"]
    options = {"steps": 20, "few": 2, "particles": 50, "pictures": False}
    plain = evaluate(pair_of(rows_model, rows_guide), {"x": x}, metrics=names, **options)
    for scales in ({"latent": 0.3}, {"likelihood": 2.5}, {"latent": 3.0}):
        q = partial(rows_guide, latent=scales.get("latent", 1.0))
        pair = pair_of(partial(rows_model, **scales), q)
        found = evaluate(pair, {"x": x}, metrics=names, **options)
        for name in names:
            assert found[name].value == plain[name].value
            assert "poutine.scale at" in found[name].note
            assert "poutine.scale" not in plain[name].note


def test_evaluation_keeps_masks():
    x = 1.3 * torch.randn(30, 1)
    mask = torch.arange(30) < 15

    def half(x):
        with pyro.plate("data", len(x), dim=-1), poutine.mask(mask=mask[: len(x)]):
            pyro.sample("x", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1), obs=x)

    found = evaluate(pair_of(half, lambda x: None), {"x": x}, metrics=["nll"], pictures=False)
    expected = -(dist.Normal(0.0, 1.0).log_prob(x[:, 0]) * mask).mean()
    assert found["nll"].value == pytest.approx(float(expected))


def test_a_subsampled_inner_plate_is_no_bound():
    def some(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("pixels", 6, subsample=torch.arange(2), dim=-2):
                pyro.sample("x", dist.Normal(z, SD_X), obs=x.T)

    def seen(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.mean(1), SD_Q))

    found = evaluate(
        pair_of(some, seen), {"x": torch.randn(30, 2)}, metrics=["nll"], pictures=False
    )
    assert found["nll"].value is None
    assert "subsampled" in found["nll"].note


def test_the_validation_bound_leaves_training_scales_out():
    data = Data.from_arrays(torch.randn(60, 1), valid=20, test=0)
    bounds = []
    for scale in (1.0, 0.01):
        q = partial(lambda x, s: learned(x, s), s=scale)
        p = partial(lambda x, s: rows_model(x, latent=s), s=scale)
        run = fit((p, q), ELBO(), data, steps=1, lr=1e-12, progress=False, compile="off")
        bounds.append(run.history[-1]["bound"])
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-9)


def learned(x, s):
    m = pyro.param("m", torch.tensor(0.5))
    with pyro.plate("data", len(x), dim=-1), poutine.scale(scale=s):
        pyro.sample("z", dist.Normal(m * x[:, 0], SD_Q))


@pytest.mark.parametrize("name", ["nll", "elbo", "reconstruction", "ais"])
def test_evaluation_averages_by_the_rows_weights(name):
    """A row of weight 3 counts as three rows, one of weight 0 as none."""
    x, weight = 1.3 * torch.randn(12, 1), torch.tensor([0.0, 1.0, 3.0, 2.0] * 3)
    options = {"metrics": [name], "pictures": False, "particles": 20, "steps": 20}
    pair = pair_of(rows_model, rows_guide)
    plain = evaluate(pair, {"x": x}, **options)[name]
    found = evaluate(pair, {"x": x, "weight": weight}, **options)[name]
    expected = (weight * plain.values).sum() / weight.sum()
    assert found.value == pytest.approx(float(expected))
    residuals = weight / weight.mean() * (plain.values - expected)
    assert found.se == pytest.approx(float(residuals.std()) / 12**0.5)
    assert float(found.values.mean()) == pytest.approx(found.value)
    assert "weights" in found.note


@pytest.mark.parametrize("weight", [torch.ones(60, 2), -torch.ones(60), torch.zeros(60)])
def test_weights_that_are_none_are_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        Data.from_arrays(x=torch.randn(60, 1), weight=weight)


def test_weights_are_no_argument(x):
    def named(x, weight):
        return model(x)

    with pytest.raises(ValueError, match="weight"):
        ELBO()(named, guide, x=x, weight=torch.ones(5))


def test_svi_takes_weights(x):
    m = torch.tensor(0.2, requires_grad=True)

    def seen(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(pyro.param("m", m.detach()) * x, SD_Q))

    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.5])
    pyro.set_rng_seed(1)
    svi = SVI(model, seen, partial(torch.optim.SGD, lr=1.0), ELBO(analytic_kl=True))
    svi.step(x=x, weight=weight)
    moved = pyro.param("m")
    assert float(moved.detach()) != pytest.approx(0.2)
