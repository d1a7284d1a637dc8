"""Posterior families: each against a closed form, a quadrature or a limit, and in every pair."""

import math
import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import roots_hermite
from torch import nn
from torch.distributions import Beta, Independent, TransformedDistribution, kl_divergence
from torch.distributions.transforms import SigmoidTransform
from torch.func import jacrev, vmap

from pairs import SMALL_POSTERIORS, SMALL_PRIORS, LinearGaussian
from priory.data import Data
from priory.distributions.beta import InnerBeta
from priory.distributions.independent import IndependentNormal, StandardNormal
from priory.distributions.logit_normal import LogitNormal
from priory.distributions.strata import StratifiedMixture
from priory.evaluation import evaluate
from priory.evaluation.latents.collapse import coordinates
from priory.inference import (
    CIWAE,
    ELBO,
    IWAE,
    KL,
    MIWAE,
    PIWAE,
    SVI,
    FreeBits,
    Match,
    Phases,
    Reconstruction,
    Renyi,
    Wake,
    fit,
    load,
)
from priory.models import CVAE, VAE, VIB, VLAE, HierarchicalVAE
from priory.nets import MLP
from priory.parsing import parse
from priory.posteriors import (
    POSTERIORS,
    FullPosterior,
    MixturePosterior,
    posterior_for,
)

pytestmark = pytest.mark.usefixtures("double")

FAMILIES = [name for name, (prior, _) in SMALL_POSTERIORS.items() if prior]
REAL = [name for name in FAMILIES if SMALL_POSTERIORS[name][0] == "normal"]
STICKS = [name for name in FAMILIES if SMALL_POSTERIORS[name][0] == "stick-breaking"]
FLOWS = ["iaf", "coupling"]


def head(name, latent, seed=0):
    """A family, its own parameters moved off their start."""
    torch.manual_seed(seed)
    found = SMALL_POSTERIORS[name][1]()
    found.build(latent)
    found.double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(0, 0.3)
    return found


def spread(name, latent, batch=(), seed=1):
    """A distribution of a family at features of the order of one."""
    family = head(name, latent)
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, *family.outputs(latent))
    return family(0.7 * torch.randn(shape, generator=generator, dtype=torch.float64))


def pair_of(name, latent=2):
    prior, make = SMALL_POSTERIORS[name]
    posterior = make()
    return VAE(
        SMALL_PRIORS[prior](), MLP((5,)), MLP((5,)), "bernoulli", latent, posterior=posterior
    )


def bits(rows=9, columns=6):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64).round()


def test_the_table_is_tested():
    assert {*SMALL_POSTERIORS} == {*POSTERIORS} - {"delta"}
    for name, (prior, make) in SMALL_POSTERIORS.items():
        kind = POSTERIORS[name]
        assert type(make()) is kind
        assert prior is None or kind.covers(SMALL_PRIORS[prior]().support)
        assert prior is None or type(posterior_for(SMALL_PRIORS[prior]().support)).automatic


# --- densities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_features_of_zero_give_the_standard_normal(name):
    family = SMALL_POSTERIORS[name][1]()
    family.build(3)
    q = family.double()(torch.zeros(2, *family.outputs(3)))
    z = torch.randn(50, 2, 3)
    torch.testing.assert_close(q.log_prob(z), StandardNormal(torch.zeros(3), 1).log_prob(z))
    assert (q.batch_shape, q.event_shape) == ((2,), (3,))


def test_features_of_zero_give_sticks_of_the_prior():
    prior, v = Beta(torch.tensor(1.0), torch.tensor(5.0)), torch.rand(50, 3)
    for name in ("kumaraswamy", "gamma"):
        q = SMALL_POSTERIORS[name][1]()(torch.zeros(2, 3))
        torch.testing.assert_close(q.log_prob(v), prior.log_prob(v).sum(-1))
        prior_of_event = Independent(prior.expand([3]), 1)
        assert kl_divergence(q, prior_of_event).item() == pytest.approx(0, abs=1e-8)
    q = SMALL_POSTERIORS["logit-normal"][1]()(torch.zeros(2, 1)).base_dist
    sample = torch.logit(prior.sample((200_000,)))
    assert q.loc.item() == pytest.approx(sample.mean().item(), abs=0.02)
    assert q.log_scale.exp().item() == pytest.approx(sample.std().item(), abs=0.02)
    odds = torch.digamma(torch.tensor([1.0, 5.0])), torch.polygamma(1, torch.tensor([1.0, 5.0]))
    assert q.loc.item() == pytest.approx((odds[0][0] - odds[0][1]).item())
    assert q.log_scale.exp().square().item() == pytest.approx(odds[1].sum().item())


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("latent", [1, 2])
def test_densities_of_real_latents_integrate_to_one(name, latent):
    q = spread(name, latent)
    line = torch.linspace(-25, 25, 801)
    grid = torch.cartesian_prod(*[line] * latent).reshape(-1, latent)
    with torch.no_grad():
        density = q.log_prob(grid).exp()
    assert (density.sum() * (line[1] - line[0]) ** latent).item() == pytest.approx(1, abs=1e-5)
    if name != "iaf" and name != "coupling":
        mean = (density.unsqueeze(-1) * grid).sum(0) / density.sum()
        torch.testing.assert_close(q.mean, mean, atol=1e-5, rtol=0)
        square = (density.unsqueeze(-1) * grid.square()).sum(0) / density.sum()
        torch.testing.assert_close(q.variance, square - mean.square(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", STICKS)
def test_densities_of_sticks_integrate_to_one(name):
    u = torch.linspace(-60, 30, 60_001)  # log-odds
    v = torch.sigmoid(u).unsqueeze(-1)
    density = (spread(name, 1).log_prob(v) + (v * (1 - v)).log().squeeze(-1)).exp()
    assert (density.sum() * (u[1] - u[0])).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_follow_their_density(name):
    """E_q[1 / q] over a box that q covers is the box's volume."""
    q = spread(name, 2)
    with torch.no_grad():
        z = q.sample((40_000,))
        low, high = z.quantile(0.3, 0), z.quantile(0.7, 0)
        inside = ((z > low) & (z < high)).all(-1)
        ratio = inside * torch.exp(-q.log_prob(z))
    error = ratio.std() / math.sqrt(len(z))
    assert abs(ratio.mean() - (high - low).prod()) < 4.5 * error
    assert q.support.check(z).all()


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_scores_its_draws_by_the_change_of_variables(name):
    family = head(name, 3)
    features = 0.7 * torch.randn(4, *family.outputs(3))

    def moved(e, h):
        for f in family.maps:
            e = f(h)(e)
        return e

    q = family(features)
    context = features[:, 6:]
    torch.manual_seed(3)
    z = q.rsample()
    torch.manual_seed(3)
    noise = q.base.rsample()
    torch.testing.assert_close(z, vmap(moved)(noise, context))
    slopes = torch.linalg.slogdet(vmap(jacrev(moved))(noise, context))[1]
    expected = q.base.log_prob(noise) - slopes
    assert slopes.abs().max() > 0.1
    torch.testing.assert_close(q.log_prob(z), expected)  # known from the draw
    torch.testing.assert_close(q.log_prob(z.clone()), expected)  # by the inverse


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_one_gradient_whichever_way_it_is_scored(name):
    family, features = head(name, 3), torch.randn(4, *head(name, 3).outputs(3))
    features.requires_grad_()
    wanted, found = [features, *family.parameters()], []
    for copied in (False, True):
        torch.manual_seed(0)
        q = family(features)
        z = q.rsample((5,))
        score = q.log_prob(z.clone() if copied else z)
        found.append(torch.autograd.grad((score + z.square().sum(-1)).sum(), wanted))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().sum() > 0
    drawn = family(features).sample((5,))  # a constant: its score depends on the features still
    assert torch.autograd.grad(family(features).log_prob(drawn).sum(), features)[0].abs().sum() > 0
    q = family(features)
    assert q.log_prob(q.sample()).requires_grad


def test_sticks_are_the_librarys_distributions():
    loc, log_scale = torch.randn(7), 0.3 * torch.randn(7)
    q = LogitNormal(loc, log_scale)
    known = TransformedDistribution(dist.Normal(loc, log_scale.exp()), [SigmoidTransform()])
    v = q.rsample((100,))
    torch.testing.assert_close(q.log_prob(v), known.log_prob(v))
    assert ((v > 0) & (v < 1)).all()


def test_gamma_ratios_have_the_gradient_of_their_mean():
    a, b = torch.tensor(1.7, requires_grad=True), torch.tensor(0.6, requires_grad=True)
    draws = InnerBeta(a, b).rsample((100_000,))
    found = torch.autograd.grad(draws.mean(), (a, b))
    exact = torch.autograd.grad(a / (a + b), (a, b))
    for one, other in zip(found, exact, strict=True):
        assert one.item() == pytest.approx(other.item(), abs=3e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_features_give_finite_densities_and_gradients(name):
    family = head(name, 2).float()
    sizes = torch.tensor([-1e6, -1e3, -13.0, 0.0, 4.0, 90.0, 1e3, 1e6], dtype=torch.float32)
    shape = family.outputs(2)
    if name in FLOWS:
        sizes = sizes[2:5]  # a context without bound moves the noise without bound
    features = sizes[torch.randint(len(sizes), (400, *shape))].requires_grad_()
    q = family(features)
    z = q.rsample() if q.has_rsample else q.within(torch.arange(400) % 2).rsample()
    loss = q.log_prob(z)
    assert loss.isfinite().all()
    (slope,) = torch.autograd.grad(loss.sum() + z.sum(), features)
    assert slope.isfinite().all()


# --- the full covariance --------------------------------------------------------------------------


def test_a_full_covariance_has_its_divergence_in_closed_form():
    features = torch.randn(6, *FullPosterior().outputs(4))
    family = FullPosterior()
    family.build(4)
    q = family(features.requires_grad_())
    assert (q.covariance_matrix - q.covariance_matrix.diagonal(dim1=-2, dim2=-1).diag_embed()).any()
    loc, log_scale = torch.randn(4), torch.randn(4)
    known = dist.MultivariateNormal(loc, scale_tril=log_scale.exp().diag())
    ours = kl_divergence(q, IndependentNormal(loc, log_scale, 1))
    torch.testing.assert_close(ours, kl_divergence(q, known))
    one = torch.autograd.grad(ours.sum(), features, retain_graph=True)
    torch.testing.assert_close(one, torch.autograd.grad(kl_divergence(q, known).sum(), features))
    assert kl_divergence(q.expand([3, 6]), StandardNormal(torch.zeros(4), 1)).shape == (3, 6)


class Fitted(LinearGaussian):
    """The exact posterior's features for a family, full or diagonal."""

    def __init__(self, full):
        super().__init__(3, 5)
        self.full, self.family = full, FullPosterior()
        self.family.build(3)

    def posterior(self, x):
        exact = super().posterior(x)
        if not self.full:
            precision = exact.precision_matrix.diagonal(dim1=-2, dim2=-1)
            return IndependentNormal(exact.mean, -0.5 * precision.log(), 1)
        diagonal = exact.scale_tril.diagonal(dim1=-2, dim2=-1)
        rows = 3 * exact.scale_tril / diagonal.unsqueeze(-1)
        below = rows[..., *torch.tril_indices(3, 3, -1)]
        parts = [exact.mean, diagonal.log().expand_as(exact.mean), below.expand(len(x), -1)]
        return self.family(torch.cat(parts, -1))


def test_a_full_covariance_reaches_the_likelihood_of_a_linear_model_and_a_diagonal_cannot():
    x = torch.randn(7, 5)
    full, diagonal = Fitted(full=True), Fitted(full=False)
    exact = full.marginal.log_prob(x)
    awake = Phases(full.model, full.guide, (x,), particles=4).awake
    torch.testing.assert_close(awake.log_weight(), exact.expand(4, 7))
    precision = LinearGaussian.posterior(full, x).precision_matrix[0]
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))  # of the best one
    assert gap > 0.1
    bound = -ELBO(particles=4000, analytic_kl=True)(diagonal.model, diagonal.guide, x)
    assert (exact.mean() - bound).item() == pytest.approx(gap.item(), abs=0.02)


# --- the stratified mixture -----------------------------------------------------------------------


class Bimodal(nn.Module):
    """x = z^2 + noise, whose posterior has two modes, and a mixture for a guide."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.4, -0.3]))
        self.loc = nn.Parameter(torch.tensor([[-0.1], [1.6]]))
        self.log_scale = nn.Parameter(torch.tensor([[-0.4], [-0.9]]))

    def log_joint(self, z, x):
        return dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.5).log_prob(x)

    def model(self, x):
        pyro.module("bimodal", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 0].square(), 0.5), obs=x)

    def posterior(self, rows=1):
        parts = self.logits, self.loc, self.log_scale
        return StratifiedMixture(*(part.expand(rows, *part.shape) for part in parts))

    def guide(self, x):
        pyro.module("bimodal", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(len(x)))

    def exact(self, x, alpha, nodes=40):
        """The expected bound of one draw of each component, by Gauss and Hermite."""
        points, weights = (torch.tensor(a) for a in roots_hermite(nodes))
        e, w = points * math.sqrt(2), weights / math.sqrt(math.pi)
        z = self.loc + self.log_scale.exp() * e  # (components, nodes)
        score = self.posterior().log_prob(z.reshape(-1, 1)).reshape(z.shape)
        ratio = self.log_joint(z, x) - score
        share = self.logits.log_softmax(0)
        if alpha == 1:
            return (share.exp() * (ratio * w).sum(-1)).sum()
        terms = [(1 - alpha) * ratio[c] + share[c] for c in range(2)]
        both = torch.logaddexp(terms[0].unsqueeze(1), terms[1].unsqueeze(0)) / (1 - alpha)
        return (both * w.unsqueeze(1) * w).sum()


@pytest.mark.parametrize(
    ("objective", "alpha"),
    [(ELBO(), 1), (IWAE(1), 0), (Renyi(0.5, 1), 0.5)],
    ids=["elbo", "iwae", "renyi"],
)
def test_a_mixtures_bound_and_its_gradient_are_those_of_the_exact_expectation(objective, alpha):
    """By weights, means and scales; each of the rows is a draw of its own of the same datum."""
    pair, x = Bimodal(), torch.tensor(1.3)
    parameters = [*pair.parameters()]
    exact = pair.exact(x, alpha)
    slopes = torch.autograd.grad(exact, parameters)
    values, found, rows = [], [], 4000
    for seed in range(12):
        torch.manual_seed(seed)
        loss = objective(pair.model, pair.guide, x.expand(rows))
        values.append(-loss.detach())
        found.append([-g for g in torch.autograd.grad(loss, parameters)])
    values = torch.stack(values)
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(len(values))
    for slope, *many in zip(slopes, *found, strict=True):
        draws = torch.stack(many)
        error = draws.std(0) / math.sqrt(len(draws))
        assert slope.abs().max() > 15 * error.max()  # or the comparison would say nothing
        assert ((draws.mean(0) - slope).abs() < 4.5 * error + 1e-9).all()


def test_the_exact_expectations_derivative_is_the_numerical_one():
    pair, x = Bimodal(), torch.tensor(1.3)
    for alpha in (1, 0):
        (slope,) = torch.autograd.grad(pair.exact(x, alpha), [pair.logits])
        ends = []
        for step in (1e-4, -1e-4):
            moved = Bimodal()
            with torch.no_grad():
                moved.logits[0] += step
            ends.append(moved.exact(x, alpha).item())
        assert slope[0].item() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-6)


def test_a_mixtures_bound_is_the_sum_over_its_components():
    pair, x = Bimodal(), torch.linspace(-1, 2, 5)
    awake = Phases(pair.model, pair.guide, (x,), particles=3).enumerating(("z",))
    z = awake.sample["z"]
    assert z.shape == (6, 5, 1)
    share = pair.logits.log_softmax(0)[torch.arange(6) % 2]
    torch.testing.assert_close(
        awake.log_measure(3), (share - math.log(3)).unsqueeze(1).expand(6, 5)
    )
    weight = pair.log_joint(z[..., 0], x) - pair.posterior().log_prob(z)
    torch.testing.assert_close(awake.log_weight(), weight)
    torch.manual_seed(0)
    loss = IWAE(3)(pair.model, pair.guide, x)
    torch.manual_seed(0)
    again = Phases(pair.model, pair.guide, (x,), particles=3)
    again.awake  # noqa: B018
    again = again.enumerating(("z",))
    bound = (again.log_weight() + again.log_measure(3)).logsumexp(0).mean()
    torch.testing.assert_close(-loss, bound)


class Mixed(nn.Module):
    """A mixture prior under normal noise, and its exact posterior, a mixture too."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.2, -0.5, 0.1]))
        self.loc = nn.Parameter(torch.tensor([[-2.0, 0.0], [1.0, 1.0], [0.5, -1.5]]))
        self.log_scale = nn.Parameter(torch.tensor([[0.1, -0.3], [-0.5, 0.2], [0.0, 0.0]]))

    def model(self, x):
        pyro.module("mixed", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", StratifiedMixture(self.logits, self.loc, self.log_scale))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    def marginal(self):
        scale = ((2 * self.log_scale).exp() + 0.64).log() / 2
        return StratifiedMixture(self.logits, self.loc, scale)

    def guide(self, x):
        pyro.module("mixed", self)
        variance = (2 * self.log_scale).exp()
        narrow = 1 / (1 / variance + 1 / 0.64)
        loc = narrow * (self.loc / variance + x.unsqueeze(-2) / 0.64)
        spread = dist.Normal(self.loc, (variance + 0.64).sqrt()).to_event(1)
        logits = self.logits + spread.log_prob(x.unsqueeze(-2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", StratifiedMixture(logits, loc, (narrow.log() / 2).expand_as(loc)))


@pytest.mark.parametrize("objective", [ELBO(), ELBO(particles=3), IWAE(1), IWAE(3)])
def test_the_exact_mixture_posterior_gives_log_p_without_variance(objective):
    pair, x = Mixed(), torch.randn(6, 2)
    exact = pair.marginal().log_prob(x).mean()
    torch.testing.assert_close(-objective(pair.model, pair.guide, x), exact)
    plain = Phases(pair.model, pair.guide, (x,), particles=4).awake
    torch.testing.assert_close(plain.log_weight().mean(), exact)


def test_a_mixture_of_equal_components_is_the_normal():
    family = MixturePosterior(3)
    features = torch.randn(4, 1, 7).expand(4, 3, 7)
    q, z = family(features), torch.randn(10, 4, 3)
    loc, log_scale = features[:, 0, 1:].chunk(2, -1)
    same = IndependentNormal(loc, log_scale, 1)
    torch.testing.assert_close(q.log_prob(z), same.log_prob(z))
    torch.testing.assert_close(q.mean, same.mean)
    torch.testing.assert_close(q.stddev, same.stddev)


def test_a_mixtures_marginals_are_known():
    q = spread("mixture", 2, (3,))
    line = torch.linspace(-25, 25, 2001)
    other = torch.cartesian_prod(line, torch.tensor([0.3])).flip(-1)  # (0.3, z)
    joint = q.log_prob(other.unsqueeze(1)).exp().sum(0) * (line[1] - line[0])
    marginal = coordinates(q).log_prob(torch.tensor(0.3))[:, 0].exp()
    torch.testing.assert_close(joint, marginal, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "objective",
    [
        *(IWAE(3, gradient) for gradient in ("dreg", "stl", "tail-adaptive", "disarm")),
        ELBO(analytic_kl=True),
        KL(),
        Reconstruction(),
        MIWAE(4, 2),
        PIWAE(4, 2),
        CIWAE(0.5, 3),
        FreeBits(),
        Match("energy", "z"),
    ],
    ids=lambda o: f"{o.name}-{getattr(o, 'gradient', '')}",
)
def test_where_a_mixtures_gradient_would_be_biased_it_is_refused(objective):
    pair, x = pair_of("mixture"), bits()
    with pytest.raises(ValueError, match=r"no path to the mixture's weights|is of bits"):
        objective(pair.model, pair.guide, x)


def test_without_gradients_a_mixture_is_scored_by_its_draws():
    pair, x = pair_of("mixture"), bits()
    with torch.no_grad():
        for objective in (ELBO(analytic_kl=True), KL(), MIWAE(4, 2), Match("energy", "z")):
            assert objective(pair.model, pair.guide, x).isfinite()


@pytest.mark.parametrize("gradient", ["score", "vimco"])
def test_the_score_of_a_mixture_has_the_mean_of_its_strata(gradient):
    pair, x, many = Bimodal(), torch.tensor(1.3), []
    (slope,) = torch.autograd.grad(pair.exact(x, 1), [pair.logits])
    for seed in range(15):
        torch.manual_seed(seed)
        loss = ELBO(particles=4, gradient=gradient)(pair.model, pair.guide, x.expand(4000))
        many.append(-torch.autograd.grad(loss, [pair.logits])[0])
    draws = torch.stack(many)
    assert ((draws.mean(0) - slope).abs() < 4.5 * draws.std(0) / math.sqrt(len(draws))).all()


def test_a_mixture_of_strata_wants_a_pair_that_takes_particles():
    class Left(Bimodal):
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z[:, 0].square(), 0.5), obs=x)

    pair = Left()
    with pytest.raises(ValueError, match="does not take the leading dimension"):
        SVI(pair.model, pair.guide, torch.optim.SGD, ELBO()).step(torch.ones(4))


# --- in a pair ------------------------------------------------------------------------------------


def trained(name, objective, compile, steps=3):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pair, x = pair_of(name), bits()
    pair.build(x)
    svi = SVI(
        pair.model, pair.guide, lambda p: torch.optim.SGD(p, lr=0.1), objective, compile=compile
    )
    losses = [svi.step(x=x) for _ in range(steps)]
    return torch.stack(losses), [*pair.parameters()], svi.engine


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)], ids=["elbo", "iwae"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_by_every_bound_traced_as_eager(name, objective):
    eager, traced = (trained(name, objective, compile) for compile in ("off", "trace"))
    assert traced[2] == "traced"
    assert eager[0].isfinite().all()
    torch.testing.assert_close(eager[0], traced[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(eager[1], traced[1], atol=1e-10, rtol=0)
    pair, x = pair_of(name), bits()
    pair.build(x)
    before = [p.detach().clone() for p in pair.parameters()]
    assert len(before) == len(eager[1])
    fit(pair, objective, Data.from_arrays(x=x), steps=3, compile="off", progress=False)
    moved = [not torch.equal(a, b) for a, b in zip(before, pair.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize("name", ["full", "iaf", "mixture", "gamma", "logit-normal"])
def test_a_run_goes_on_to_the_same_bits_and_is_read_back(name, tmp_path):
    data = Data.from_arrays(x=bits(20).float())
    options = {"compile": "off", "progress": False, "batch_size": 5}
    whole = fit(pair_of(name), IWAE(2), data, steps=6, **options)
    part = tmp_path / "part"
    fit(pair_of(name), IWAE(2), data, steps=3, folder=part, **options)
    gone_on = fit(pair_of(name), IWAE(2), data, steps=6, folder=part, resume=True, **options)
    again = load(gone_on.save(tmp_path / "saved"), data=data)
    assert type(again.pair.posterior) is POSTERIORS[name]
    for run in (gone_on, again):
        for key, value in whole.pair.state_dict().items():
            assert torch.equal(value, run.pair.state_dict()[key]), key


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_judged(name):
    pair, x = pair_of(name), bits(60).float()
    run = fit(pair, ELBO(), Data.from_arrays(x=x), steps=2, compile="off", progress=False)
    metrics = ["nll", "elbo", "kl", "mutual_information", "mismatch", "active_units"]
    report = evaluate(run, metrics=metrics, particles=10)
    for metric in metrics:
        assert math.isfinite(report[metric].value), metric
    assert -report["nll"].value >= report["elbo"].value - 1e-6


def test_other_pairs_take_a_family():
    x, y = bits(12), torch.arange(12) % 3
    for pair in (
        CVAE(3, encoder=MLP((5,)), decoder=MLP((5,)), latent=2, posterior="full"),
        VIB(3, encoder=MLP((5,)), latent=2, posterior="full"),
        VLAE(encoder=MLP((5,)), latent=2, posterior="full"),
    ):
        pair.build(x, y)
        labels = {} if isinstance(pair, VLAE) else {"y": y}
        ELBO()(pair.model, pair.guide, x=x, **labels).backward()
        assert isinstance(pair.posterior, FullPosterior)
        assert pair.encoder.net.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["full", "iaf", "mixture"])
def test_every_layer_of_a_hierarchy_takes_the_family(name):
    posterior, nets = SMALL_POSTERIORS[name][1](), {"encoder": MLP((5,)), "decoder": MLP((5,))}
    pair = HierarchicalVAE(**nets, inner=MLP((4,)), latents=(3, 2), posterior=posterior)
    x = bits()
    pair.build(x)
    assert [type(part.head) for part in (pair.encoder, pair.up[0])] == 2 * [type(posterior)]
    assert type(pair.down[0].head) is POSTERIORS["normal"]
    ELBO(particles=2)(pair.model, pair.guide, x).backward()
    last = [pair.encoder.net.last.weight, pair.up[0].net.last.weight]
    assert all(w.grad.isfinite().all() and w.grad.abs().sum() > 0 for w in last)
    with pytest.raises(ValueError, match="does not cover the prior's support"):
        HierarchicalVAE("stick-breaking", posterior=name)


def test_the_strata_of_two_layers_have_the_mean_of_plain_draws():
    """The upper layer's weights depend on the lower one's draw."""
    layers = {"encoder": MLP((5,)), "decoder": MLP((5,)), "inner": MLP((4,)), "latents": (2, 1)}
    pair, x = HierarchicalVAE(**layers, posterior="mixture"), bits(1)
    pair.build(x)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.normal_(0, 0.6)
        x = x.expand(6000, -1)
        strata = Phases(pair.model, pair.guide, (x,), particles=1).enumerating(("z1", "z2"))
        assert strata.log_weight().shape == (9, 6000)
        every = (strata.log_measure(1).exp() * strata.log_weight()).sum(0)
        plain = Phases(pair.model, pair.guide, (x,), particles=1).awake.log_weight()[0]
        error = math.sqrt((every.var() + plain.var()) / len(x))
    assert abs(every.mean() - plain.mean()) < 4 * error
    assert every.std() < plain.std()


def test_a_familys_own_parameters_are_of_one_pair():
    x, posterior = bits(), SMALL_POSTERIORS["iaf"][1]()
    VAE(latent=2, posterior=posterior).build(x)
    with pytest.raises(ValueError, match="another pair; give each pair a posterior of its own"):
        VAE(latent=2, posterior=posterior).build(x)
    shared = FullPosterior()  # which has none
    for _ in range(2):
        VAE(latent=2, posterior=shared).build(x)


def test_a_family_is_written_with_its_options():
    posterior = parse("posterior", "iaf:transforms=3:hidden=8,8", POSTERIORS)
    assert (posterior.transforms, posterior.hidden, posterior.outputs(2)) == (3, (8, 8), (20,))
    assert parse("posterior", "mixture:5", POSTERIORS).components == 5
    with pytest.raises(ValueError, match="components must be an integer of 2 or more, got 1"):
        MixturePosterior(1)


def test_wake_learns_a_mixture_by_its_density():
    pair, x = pair_of("mixture"), bits()
    pair.build(x)
    Wake(3)(pair.model, pair.guide, x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pair.parameters())


def test_the_page_lists_every_family():
    page = (Path(__file__).parents[1] / "docs" / "posteriors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)(?::[^`]*)?`( \(auto\))? \|", page, re.M)
    assert {name for name, _ in rows} == {*POSTERIORS} - {"delta"}
    for name, auto in rows:
        assert POSTERIORS[name].automatic == bool(auto)
