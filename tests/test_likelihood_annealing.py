"""Annealing, Hamiltonian chains and their bounds against the linear-Gaussian pair."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from tests.pairs import LinearGaussian

from priory.evaluation import Unavailable, evaluate
from priory.evaluation.isolation import sealed
from priory.evaluation.likelihood.ais import annealed_log_likelihood, schedule
from priory.evaluation.likelihood.bidirectional import bidirectional
from priory.evaluation.likelihood.hmc import hmc
from priory.evaluation.likelihood.joint import Joint
from priory.evaluation.posterior.gaps import inference_gaps


def data(n, seed=0):
    pair = LinearGaussian()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        x = pair.marginal.sample((n,))
        return x, pair.marginal.log_prob(x)


def within(values, truth=0.0, times=3):
    return abs(float(values.mean()) - truth) <= times * float(values.std()) / math.sqrt(len(values))


# The density


def test_the_joint_density_is_the_programs():
    x, _ = data(5)
    pair = LinearGaussian(widen=1.4)
    with sealed(pair.model, pair.guide):
        joint = Joint(pair.model, pair.guide, {"x": x}, chains=3)
        u = joint.prior()
        z = u  # the real line needs no bijection
        log_prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
        mean = z @ pair.w.T + pair.b
        log_x = dist.Normal(mean, pair.log_s.exp()).log_prob(x).sum(-1)
        assert torch.allclose(joint.log_density(u), log_prior + log_x)
        assert torch.allclose(joint.guide_density(u), pair.posterior(x).log_prob(z))
        again = joint.of(joint.latent_values(u[:1].expand(3, -1, -1).reshape(1, 15, 2)[:, :5]))
        assert torch.equal(again[0], u[0])


def simplex_pair(rows):
    concentration = torch.tensor([1.0, 2.0, 3.0]).double()

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            scale = pyro.sample("scale", dist.Gamma(torch.tensor(2.0).double(), 1.0))
            with pyro.plate("views", 2, dim=-2):
                share = pyro.sample("share", dist.Dirichlet(concentration))
            mean = (share[0] - share[1]) * scale[:, None]
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("scale", dist.Gamma(torch.tensor(2.0).double(), 1.0))
            with pyro.plate("views", 2, dim=-2):
                pyro.sample("share", dist.Dirichlet(concentration))

    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)).double()
    return model, guide, x


def test_constrained_latents_keep_their_laws():
    """The prior as the target: chains in the unconstrained space have the prior's moments."""
    model, guide, x = simplex_pair(1)
    with sealed(model, guide):
        joint = Joint(model, guide, {"x": x}, chains=40)
        assert joint.dim == 1 + 2 * 2
        start = joint.prior()
        draw = torch.Generator().manual_seed(0)
        chains = hmc(lambda u: joint.densities(u)[0], start, 60, warmup=30, keep=3, generator=draw)
        shares, scales = [], []
        for u in chains.samples:
            z = joint.latent_values(u)
            shares.append(z["share"].mean((0, 1)))
            scales.append(z["scale"].mean())
        assert z["share"].shape == (2, 40, 3)
        assert torch.allclose(z["share"].sum(-1), torch.ones(2, 40).double())
    expected = torch.tensor([1.0, 2.0, 3.0]).double() / 6
    assert torch.allclose(torch.stack(shares).mean(0), expected, atol=0.03)
    assert float(torch.stack(scales).mean()) == pytest.approx(2.0, abs=0.3)


def test_annealing_of_constrained_latents_agrees_with_many_samples():
    model, guide, x = simplex_pair(6)
    found = annealed_log_likelihood(model, guide, x, steps=30, chains=16)
    with sealed(model, guide):
        joint = Joint(model, guide, {"x": x}, chains=20000)
        likelihood = joint.densities(joint.start)[1]
    truth = likelihood.logsumexp(0) - math.log(20000)
    assert (found.log_likelihood - truth).abs().max() < 0.5
    assert within(found.log_likelihood - truth)


def test_latents_that_gradients_cannot_move_are_refused():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(c[:, None], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.Bernoulli(0.5))

    pair, x = SimpleNamespace(model=model, guide=guide), torch.zeros(3, 1)
    report = evaluate(pair, x, metrics=["ais", "bdmc", "inference_gap"], few=2, steps=2)
    assert all("c is discrete" in r.note for r in report)

    def moving(x):
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Uniform(torch.tensor(0.0), 1.0))
            b = pyro.sample("b", dist.Uniform(a, a + 1))
            pyro.sample("x", dist.Normal(b[:, None], 1.0).to_event(1), obs=x)

    with pytest.raises(Unavailable, match="support of b moves"), sealed(moving):
        Joint(moving, guide, {"x": x})


# Chains


def test_chains_sample_the_posterior():
    x, _ = data(4)
    pair = LinearGaussian()
    draw = torch.Generator().manual_seed(0)
    with sealed(pair.model, pair.guide):
        joint = Joint(pair.model, pair.guide, {"x": x}, chains=25)
        chains = hmc(joint.log_density, joint.start, 80, warmup=60, generator=draw)
        posterior = pair.posterior(x)
        assert (chains.samples.mean((0, 1)) - posterior.mean).abs().max() < 0.08
        spread = chains.samples.flatten(0, 1).var(0)
        assert torch.allclose(spread, posterior.variance, rtol=0.25)
    assert torch.all((chains.acceptance > 0.45) & (chains.acceptance < 0.85))


def test_each_datum_has_a_step_of_its_own():
    widths = torch.tensor([0.1, 1.0, 10.0]).double()
    start = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0)) * widths[:, None]

    def density(u):
        return -0.5 * (u / widths[:, None]).square().sum(-1)

    draw = torch.Generator().manual_seed(1)
    found = hmc(density, start.double(), 100, warmup=100, step=1.0, generator=draw)
    assert torch.allclose(found.step / widths, (found.step / widths).mean(), rtol=0.4)
    assert torch.all((found.acceptance > 0.45) & (found.acceptance < 0.85))
    again = hmc(
        density,
        start.double(),
        100,
        warmup=100,
        step=1.0,
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.equal(found.samples, again.samples)


def test_an_infinite_density_is_never_entered():
    def density(u):
        return torch.where(u[..., 0] > 0, -u[..., 0], -math.inf)

    draw = torch.Generator().manual_seed(0)
    found = hmc(density, torch.ones(50, 1, 1).double(), 200, warmup=50, step=0.3, generator=draw)
    assert found.samples.min() > 0
    assert float(found.samples.mean()) == pytest.approx(1.0, abs=0.1)


# Annealing


def test_the_schedule():
    betas = schedule(10)
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert torch.all(betas.diff() > 0)
    assert torch.allclose(betas + betas.flip(0), torch.ones(11).double())
    assert torch.allclose(schedule(4, 1e-5), torch.linspace(0, 1, 5).double(), atol=1e-6)
    with pytest.raises(ValueError, match="must be positive, got 0"):
        schedule(0)


def test_annealing_brackets_the_truth_and_converges():
    x, truth = data(50)
    pair = LinearGaussian(widen=2.0, shift=0.3)
    marginal = pair.marginal
    gaps = []
    for steps in (2, 40):
        found = annealed_log_likelihood(pair.model, pair.guide, x, steps=steps, chains=4)
        error = found.log_likelihood - truth
        both = bidirectional(pair.model, pair.guide, x, steps=steps, chains=4)
        with torch.no_grad():
            exact = marginal.log_prob(both.x)
        low, high = both.lower - exact, both.upper - exact
        se = [float(v.std()) / math.sqrt(50) for v in (error, low, high)]
        assert error.mean() <= 3 * se[0]
        assert low.mean() <= 3 * se[1]
        assert high.mean() >= -3 * se[2]
        gaps.append(float((both.upper - both.lower).mean()))
    assert within(error, times=4)
    assert gaps[1] < 0.25 < gaps[0]


def test_weights_are_unbiased():
    """E[w] = p(x) for any number of steps: the mean over many chains of few steps is right."""
    x, truth = data(3)
    pair = LinearGaussian()
    found = annealed_log_likelihood(pair.model, pair.guide, x, steps=8, chains=1000)
    assert (found.log_likelihood - truth).abs().max() < 0.15
    assert torch.all(found.ess > 100)


def test_a_start_at_the_target_has_no_variance():
    x, truth = data(5)
    pair = LinearGaussian()
    found = annealed_log_likelihood(pair.model, pair.guide, x, steps=6, chains=3, initial="guide")
    assert torch.allclose(found.log_likelihood, truth, atol=1e-9)
    assert torch.allclose(found.ess, torch.full((5,), 3.0).double())
    both = bidirectional(pair.model, pair.guide, x, steps=6, chains=3, initial="guide")
    assert (both.upper - both.lower).abs().max() < 1e-9


def test_annealing_is_reproducible_and_leaves_no_trace():
    x, _ = data(3)
    pair = LinearGaussian()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two = (
        annealed_log_likelihood(pair.model, pair.guide, x, steps=3, chains=2).log_likelihood
        for _ in range(2)
    )
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in pair.parameters())


# Gaps


def divergence_of_mean_field():
    pair = LinearGaussian()
    with torch.no_grad():
        precision = torch.linalg.inv(
            pair.posterior(torch.zeros(1, 5).double()).covariance_matrix[0]
        )
    return 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))


def test_gaps_of_a_mean_field_and_of_a_full_family():
    x, truth = data(6)
    c = 2.0
    pair = LinearGaussian(widen=c)
    field = inference_gaps(
        pair.model, pair.guide, x, steps=150, chains=8, family="mean-field", annealed=truth
    )
    assert float(field.approximation.mean()) == pytest.approx(divergence_of_mean_field(), abs=3e-3)
    assert torch.allclose(field.inference, field.approximation + field.amortisation)
    full = inference_gaps(pair.model, pair.guide, x, steps=150, chains=8, annealed=truth)
    assert full.family == "full"
    assert full.approximation.abs().max() < 1e-3
    expected = c - 1 - math.log(c)  # KL of two dimensions, each half of this
    assert float(full.amortisation.mean()) == pytest.approx(expected, abs=0.05)


def test_an_exact_guide_has_no_gaps():
    x, truth = data(4)
    pair = LinearGaussian()
    gaps = inference_gaps(pair.model, pair.guide, x, steps=60, chains=8, annealed=truth)
    for gap in (gaps.inference, gaps.approximation, gaps.amortisation):
        assert gap.abs().max() < 2e-3


def test_rows_of_the_slow_metrics():
    x, truth = data(40)
    pair = LinearGaussian(widen=2.0)
    names = ["ais", "bdmc", "inference_gap", "approximation_gap", "amortisation_gap"]
    report = evaluate(pair, x, metrics=names, few=10, steps=40, particles=200, pictures=False)
    assert all(record.n == 10 and record.steps == 40 for record in report)
    index = torch.linspace(0, 39, 10).round().long()
    assert report["ais"].value == pytest.approx(-float(truth[index].mean()), abs=0.3)
    assert abs(report["bdmc"].value) < 0.4
    total = report["approximation_gap"].value + report["amortisation_gap"].value
    assert report["inference_gap"].value == pytest.approx(total)
    alone = evaluate(
        pair, x, metrics=["amortisation_gap"], few=10, steps=40, particles=200, pictures=False
    )
    assert alone["amortisation_gap"] == report["amortisation_gap"]
