"""Posterior heads and the Kumaraswamy law, against quadrature and closed forms."""

import copy
import math

import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from scipy import integrate
from scipy.stats import kstest
from torch.distributions import (
    Beta,
    Independent,
    MultivariateNormal,
    constraints,
    kl_divergence,
)
from torch.distributions import Kumaraswamy as LibraryKumaraswamy

from priory.distributions.kumaraswamy import Kumaraswamy
from priory.inference import ELBO, Phases
from priory.models import AAE, VAE, MaskedVAE, TwoLevelVAE
from priory.nets import MLP
from priory.posteriors import POSTERIORS, KumaraswamyPosterior, NormalPosterior, posterior_for
from priory.priors import VampPrior
from priory.serialisation import from_config, to_config

pytestmark = pytest.mark.usefixtures("double")


def distribution(a, b):
    return Kumaraswamy(torch.tensor(float(a)), torch.tensor(float(b)))


def kl_by_quadrature(a, b, alpha, beta):
    """KL by adaptive quadrature over the logarithm of t, with v = (1 - e^(-t / b))^(1 / a)."""
    log_beta = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)

    def term(y):
        t = math.exp(y)
        log_w = math.log(-math.expm1(-t / b)) if t < b else math.log1p(-math.exp(-t / b))
        log_v, log_1w = log_w / a, -t / b
        log_q = math.log(a * b) + (a - 1) * log_v + (b - 1) * log_1w
        log_1v = math.log(-math.expm1(log_v)) if log_v < 0 else -t / b - math.log(a)
        log_p = (alpha - 1) * log_v + (beta - 1) * log_1v - log_beta
        return (log_q - log_p) * t * math.exp(-t)

    return integrate.quad(term, -42, 4.2, epsabs=1e-12, epsrel=1e-12, limit=500)[0]


@pytest.mark.parametrize(("a", "b", "kl"), [(2, 3, 1.3990), (5, 5, 3.5289), (1, 1, 2.3905)])
def test_known_divergences_from_beta(a, b, kl):
    prior = Beta(torch.tensor(1.0), torch.tensor(5.0))
    assert kl_divergence(distribution(a, b), prior).item() == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize("b", [0.05, 0.3, 1.0, 4.0, 50.0])
@pytest.mark.parametrize("b0", [0.5, 1.0, 5.0, 20.0])
def test_divergence_closed_form_at_a_one(b, b0):
    kl = kl_divergence(distribution(1, b), Beta(torch.tensor(1.0), torch.tensor(b0)))
    assert kl.item() == pytest.approx(math.log(b / b0) + b0 / b - 1, abs=1e-8)


@pytest.mark.parametrize("a", [0.1, 0.7, 2.0, 40.0])
@pytest.mark.parametrize("b", [0.1, 0.5, 1.5, 30.0])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 5.0), (0.5, 0.5), (3.0, 1.0), (2.0, 8.0)])
def test_divergence_by_quadrature(a, b, alpha, beta):
    kl = kl_divergence(distribution(a, b), Beta(torch.tensor(alpha), torch.tensor(beta)))
    assert kl.item() == pytest.approx(kl_by_quadrature(a, b, alpha, beta), rel=1e-7, abs=1e-7)


def test_divergence_is_differentiable_in_both_shapes():
    a = torch.tensor([0.4, 1.0, 3.0, 12.0], requires_grad=True)
    b = torch.tensor([0.2, 0.9, 5.0, 40.0], requires_grad=True)
    alpha = torch.tensor([1.0, 2.0, 0.5, 1.0], requires_grad=True)
    beta = torch.tensor([5.0, 0.5, 3.0, 9.0], requires_grad=True)

    def kl(a, b, alpha, beta):
        return kl_divergence(Kumaraswamy(a, b), Beta(alpha, beta))

    assert torch.autograd.gradcheck(kl, (a, b, alpha, beta))


def test_divergence_in_single_precision_and_over_events():
    a, b = torch.rand(64, 10) * 5 + 0.1, torch.rand(64, 10) * 9 + 0.1
    prior = Beta(torch.ones(10), torch.full((10,), 5.0))
    double = kl_divergence(Kumaraswamy(a, b), prior)
    summed = kl_divergence(Kumaraswamy(a, b).to_event(1), Independent(prior, 1))
    torch.testing.assert_close(summed, double.sum(-1))
    single_prior = Beta(torch.ones(10).float(), torch.full((10,), 5.0).float())
    single = kl_divergence(Kumaraswamy(a.float(), b.float()), single_prior)
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1.0, 1.0), (2.0, 3.0), (7.0, 0.8), (0.3, 9.0)])
def test_density_integrates_to_one_and_moments_hold(a, b):
    q = distribution(a, b)
    # The substitution v = sin(s)^2 takes the ends' singularities down.
    value = torch.linspace(0, 1, 2_000_002)[1:-1]
    s = (math.pi / 2) * value**3 * (value * (6 * value - 15) + 10)
    jacobian = (math.pi / 2) * 30 * (value * (1 - value)) ** 2 * torch.sin(2 * s)
    v = torch.sin(s).square().clamp(torch.finfo(s.dtype).tiny, 1 - torch.finfo(s.dtype).eps)
    weight = q.log_prob(v).exp() * jacobian / len(value)
    assert weight.sum().item() == pytest.approx(1, abs=2e-3 if min(a, b) < 1 else 1e-6)
    draws = q.sample((50_000,))
    assert ((draws > 0) & (draws < 1)).all()
    assert kstest(draws.numpy(), lambda v: 1 - (1 - v**a) ** b).pvalue > 1e-3
    error = 4 * math.sqrt(q.variance.item() / len(draws))
    assert abs(draws.mean() - q.mean) < error
    entropy = -q.log_prob(draws)
    assert abs(entropy.mean() - q.entropy()) < 4 * entropy.std() / math.sqrt(len(draws)) + 1e-12
    library = LibraryKumaraswamy(torch.tensor(a), torch.tensor(b))
    inner = draws[(draws > 1e-6) & (draws < 1 - 1e-6)][:1000]
    torch.testing.assert_close(q.log_prob(inner), library.log_prob(inner))
    torch.testing.assert_close(q.mean, library.mean)


def test_single_precision_draws_stay_inside_with_finite_gradients():
    a = torch.tensor([0.05, 0.5, 1.0, 30.0], dtype=torch.float32, requires_grad=True)
    b = torch.tensor([[0.05], [0.5], [5.0], [300.0]], dtype=torch.float32, requires_grad=True)
    q = Kumaraswamy(a, b)
    v = q.rsample((50_000,))
    assert ((v > 0) & (v < 1)).all()
    density = q.log_prob(v)
    assert density.isfinite().all()
    (density.mean() + v.mean()).backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_draws_follow_their_shapes():
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    q = Kumaraswamy(a, b)
    draws = q.rsample((100_000,))
    by_draws = torch.autograd.grad(draws.mean(), (a, b))
    by_formula = torch.autograd.grad(q.mean, (a, b))
    for left, right in zip(by_draws, by_formula, strict=True):
        assert left.item() == pytest.approx(right.item(), abs=2e-3)


@pytest.mark.parametrize("head", [NormalPosterior(), KumaraswamyPosterior()])
def test_heads(head):
    features = torch.randn(3, 4, head.params, 5, requires_grad=True)
    q = head(features)
    assert isinstance(q, TorchDistributionMixin)
    assert (q.batch_shape, q.event_shape, q.has_rsample) == ((3, 4), (5,), True)
    z = q.rsample((2,))
    assert q.support.check(z).all()
    assert q.expand([2, 3, 4]).log_prob(z).shape == (2, 3, 4)
    q.log_prob(z).sum().backward()
    assert features.grad.isfinite().all()


def test_heads_at_zero_features():
    zeros = torch.zeros(2, 5)
    normal = NormalPosterior()(zeros)
    torch.testing.assert_close(normal.mean, torch.zeros(5))
    torch.testing.assert_close(normal.scale, torch.ones(5))
    prior = Beta(torch.ones(5), torch.full((5,), 5.0)).expand([5])
    kl = kl_divergence(KumaraswamyPosterior()(zeros), Independent(prior, 1))
    assert kl.item() == pytest.approx(0, abs=1e-8)


def test_the_family_follows_from_the_support():
    for support in (constraints.real, constraints.real_vector):
        assert isinstance(posterior_for(support), NormalPosterior)
    for support in (
        constraints.unit_interval,
        constraints.independent(constraints.interval(0, 1), 1),
    ):
        assert isinstance(posterior_for(support), KumaraswamyPosterior)
    for support in (constraints.simplex, constraints.interval(0, 2), constraints.positive):
        with pytest.raises(ValueError, match="the supported are real, unit_interval"):
            posterior_for(support)


@pytest.mark.parametrize("head", [NormalPosterior(), KumaraswamyPosterior()])
def test_any_features_give_a_finite_divergence_and_gradient(head):
    sizes = (-1e6, -1e3, -100.0, -13.0, 0.0, 4.0, 90.0, 1e3, 1e6)
    features = torch.cartesian_prod(torch.tensor(sizes), torch.tensor(sizes)).float().unsqueeze(-1)
    features.requires_grad_()
    q = head(features)
    one = torch.ones(1, dtype=torch.float32)
    prior = Independent(Beta(one, 5 * one), 1)
    if isinstance(head, NormalPosterior):
        prior = NormalPosterior()(torch.zeros(2, 1, dtype=torch.float32))
    z = q.rsample()
    loss = kl_divergence(q, prior) + q.log_prob(z)
    assert loss.isfinite().all()
    (slope,) = torch.autograd.grad(loss.sum() + z.sum(), features)
    assert slope.isfinite().all()


def test_log_scales_are_exact_within_their_bounds_and_tend_to_a_limit_beyond():
    s = torch.tensor([-1e9, -14.0, -12.0, -3.0, 0.0, 4.0, 5.0, 1e9], requires_grad=True)
    found = NormalPosterior()(torch.stack([torch.zeros(8), s])).log_scale
    assert found.tolist() == pytest.approx([-13, -12 - 2 / 3, -12, -3, 0, 4, 4.5, 5])
    (slope,) = torch.autograd.grad(found.sum(), s)
    assert slope.tolist() == pytest.approx([1e-18, 1 / 9, 1, 1, 1, 1, 0.25, 1e-18])


# --- the family that is asked for ---------------------------------------------------------------


def test_a_family_that_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"'kumaraswamy' does not cover .* do are .*normal"):
        VAE(posterior="kumaraswamy")
    with pytest.raises(ValueError, match=r"'normal' does not cover .* do are .*kumaraswamy"):
        VAE("stick-breaking", posterior="normal")
    with pytest.raises(ValueError, match="a point is deterministic=True"):
        VAE(posterior="delta")
    with pytest.raises(ValueError, match="leave posterior='auto', or deterministic=False"):
        VAE(deterministic=True, posterior="normal")
    with pytest.raises(ValueError, match="unknown posterior 'nomal', nearest 'normal'"):
        VAE(posterior="nomal")


@pytest.mark.parametrize(("prior", "name"), [("normal", "normal"), ("uniform", "kumaraswamy")])
def test_the_family_by_name_is_the_one_of_the_support(prior, name):
    x, found = torch.rand(6, 4).round(), []
    written = f"priory.posteriors.{POSTERIORS[name].__name__}"
    for posterior, config in (("auto", "auto"), (name, {"class": written})):
        torch.manual_seed(0)
        pair = VAE(prior, MLP((5,)), MLP((5,)), "bernoulli", 2, posterior=posterior)
        pair.build(x)
        found.append(pair.encoder(x).rsample())
        assert to_config(pair)["posterior"] == config
    assert torch.equal(*found)


def test_one_family_of_its_own_size_for_each_pair():
    head = NormalPosterior()
    VAE(latent=2, posterior=head).build(torch.rand(6, 4))
    with pytest.raises(ValueError, match="give each pair a posterior of its own"):
        VAE(latent=3, posterior=head).build(torch.rand(6, 4))


NETS = {"likelihood": "bernoulli", "encoder": MLP((5,)), "decoder": MLP((5,))}
PAIRS = {  # the sites whose family is an option
    "masked": (lambda **o: MaskedVAE(latent=2, **copy.deepcopy(NETS), **o), ("z",)),
    "style": (
        lambda **o: AAE(
            latent=2,
            codes=3,
            code="straight-through",
            deterministic=False,
            **copy.deepcopy(NETS),
            **o,
        ),
        ("z",),
    ),
    "levels": (
        lambda **o: TwoLevelVAE(
            latents=(2, 3), lower_encoder=MLP((5,)), upper=MLP((5,)), **copy.deepcopy(NETS), **o
        ),
        ("z1", "z2"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_other_pairs_take_a_family_too(name):
    make, sites = PAIRS[name]
    x, found = torch.rand(6, 4).round(), []
    for posterior in ("auto", "normal", "full"):
        torch.manual_seed(0)
        pair = make(posterior=posterior)
        pair.build(x)
        phase = Phases(pair.model, pair.guide, columns={"x": x}).awake
        found.append({site: phase.sample[site] for site in sites})
        config = to_config(pair)
        assert to_config(from_config(config)) == config
    for site in sites:
        assert torch.equal(found[0][site], found[1][site])
        full = phase.distribution(site)
        assert isinstance(full, MultivariateNormal)
        torch.testing.assert_close(phase.log_q(site)[0], full.log_prob(found[2][site])[0])
    ELBO()(pair.model, pair.guide, x).backward()
    assert all(p.grad.abs().sum() > 0 for p in pair.encoder.net.last.parameters())
    with pytest.raises(ValueError, match="'kumaraswamy' does not cover"):
        make(posterior="kumaraswamy")


def test_a_style_that_is_a_point_has_no_family():
    with pytest.raises(ValueError, match="leave posterior='auto', or deterministic=False"):
        AAE(posterior="full")


def test_the_levels_of_a_vamp_prior_have_the_posteriors_family():
    pair = TwoLevelVAE(VampPrior(3), latents=(2, 3), posterior="full")
    pair.build(torch.rand(6, 4))
    assert isinstance(pair.prior().component_distribution, MultivariateNormal)
