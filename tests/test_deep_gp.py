"""Sparse Gaussian processes against exact ones, and the autoencoder that they decode for."""

import math

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal
from pyro.infer import Trace_ELBO
from torch.distributions import kl_divergence

from priory.data import Data
from priory.distributions.expected import ExpectedNormal
from priory.evaluation import evaluate, log_likelihood
from priory.inference import ELBO, IWAE, Phases
from priory.likelihoods import Normal
from priory.models import DeepGPVAE, ProbabilisticPCA
from priory.nets import MLP, Affine, SparseGP
from priory.nets import sparse_gp as module
from priory.parsing import parse_objective
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

NOISE = 0.3
ROWS, OUTPUTS = 12, 3


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Points in general position need no jitter, which would show in the seventh digit."""
    monkeypatch.setitem(module._JITTER, torch.float64, 1e-13)


def inputs(rows=ROWS):
    return torch.randn(rows, 2, generator=torch.Generator().manual_seed(1))


def outputs():
    return torch.randn(ROWS, OUTPUTS, generator=torch.Generator().manual_seed(2))


def layer_of(points, kernel="rbf+linear"):
    torch.manual_seed(0)
    layer = SparseGP(len(points), kernel)
    layer.build(points, torch.tensor([0.5, -1.0, 0.0]), 1.3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def kernel_of(layer, a, b):
    """The kernel element by element."""
    found = torch.zeros(len(a), len(b))
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            if "rbf" in layer.kernel:
                gap = ((left - right) / layer.log_length.exp()).square().sum()
                found[i, j] += layer.log_amplitude.exp() ** 2 * (-gap / 2).exp()
            if "linear" in layer.kernel:
                found[i, j] += (layer.log_slope.exp() ** 2 * left * right).sum()
    return found


def evidence(covariance, y, bias):
    """log N of each column of y, summed."""
    noisy = covariance + NOISE**2 * torch.eye(len(y))
    return MultivariateNormal(torch.zeros(len(y)), noisy).log_prob((y - bias).T).sum()


def take(layer, q):
    """Let a normal distribution (one factor for all columns) be a layer's q(u)."""
    with torch.no_grad():
        layer.loc.copy_(q.loc)
        scale = q.scale_tril[0].diagonal()
        layer.log_scale.copy_(scale.log())
        layer.below.copy_((q.scale_tril[0] / scale[:, None]).tril(-1))


def best(layer, z, y):
    """The q(u) that is p(u | y), in closed form."""
    a, _ = layer.weights(z)
    precision = torch.eye(len(layer.points)) + a.T @ a / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = (y - layer.bias).T @ a @ covariance / NOISE**2
    return MultivariateNormal(mean, covariance)


def total(layer, z, y):
    """The bound on log p(y) of one draw of u, from the layer's programs."""

    def model(x):
        u = pyro.sample("u", layer.prior())
        with pyro.plate("data", len(x)):
            mean, variance = layer(z, u)
            noise = torch.tensor(NOISE).log().expand_as(mean)
            fn = ExpectedNormal(mean, noise, variance.expand_as(mean), 1)
            pyro.sample("x", fn, obs=x)

    def guide(x):
        pyro.sample("u", layer.posterior())

    return -len(y) * ELBO()(model, guide, y)


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["rbf", "rbf+linear"])
def test_with_the_inputs_as_inducing_points_every_draw_gives_the_exact_evidence(kernel):
    z, y = inputs(), outputs()
    layer = layer_of(z, kernel)
    with torch.no_grad():
        layer.points.copy_(z)
    take(layer, best(layer, z, y))
    expected = evidence(kernel_of(layer, z, z), y, layer.bias)
    for _ in range(3):
        torch.testing.assert_close(total(layer, z, y), expected, rtol=1e-6, atol=0.0)


@torch.no_grad()
def test_the_bound_is_titsias_at_the_best_q_and_less_by_the_divergence_from_it():
    z, y = inputs(), outputs()
    layer = layer_of(inputs(4) + 0.1)
    cross = kernel_of(layer, z, layer.points)
    known = cross @ torch.linalg.solve(kernel_of(layer, layer.points, layer.points), cross.T)
    every = kernel_of(layer, z, z)
    lost = OUTPUTS * (every - known).trace() / (2 * NOISE**2)
    collapsed = evidence(known, y, layer.bias) - lost
    assert collapsed < evidence(every, y, layer.bias) - 1

    own, optimum = layer.posterior().base_dist, best(layer, z, y)
    gap = kl_divergence(own, optimum).sum()
    mean, variance = layer(z)
    fn = ExpectedNormal(mean, torch.tensor(NOISE).log().expand_as(mean), variance.expand(-1, 3), 1)
    bound = fn.log_prob(y).sum() - kl_divergence(layer.posterior(), layer.prior())
    torch.testing.assert_close(bound, collapsed - gap)
    assert gap > 1

    take(layer, optimum)
    for _ in range(3):
        torch.testing.assert_close(total(layer, z, y), collapsed)


@torch.no_grad()
def test_a_linear_kernel_is_bayesian_linear_regression():
    z, y = inputs(), outputs()
    layer = layer_of(inputs(2) + torch.eye(2), "linear")
    prior = torch.diag(layer.log_slope.exp() ** 2)
    take(layer, best(layer, z, y))
    expected = evidence(z @ prior @ z.T, y, layer.bias)
    torch.testing.assert_close(total(layer, z, y), expected)
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + z.T @ z / NOISE**2)
    slopes = covariance @ z.T @ (y - layer.bias) / NOISE**2
    new = torch.randn(5, 2)
    mean, variance = layer(new)
    torch.testing.assert_close(mean, new @ slopes + layer.bias)
    torch.testing.assert_close(variance[:, 0], (new @ covariance * new).sum(1), atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_mean_over_q_is_that_over_draws_of_u():
    layer, z = layer_of(inputs(4)), inputs(3)
    layer.log_scale.fill_(math.log(0.5))
    mean, variance = layer(z)
    u = layer.posterior().sample((40_000, 1))
    given, left = layer(z.expand(40_000, 3, 2), u)
    torch.testing.assert_close(given.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(left[0] + given.var(0), variance.expand(-1, 3), rtol=0.03, atol=0)


def test_a_factor_that_fails_is_no_number():
    layer = layer_of(inputs(4))
    with torch.no_grad():
        layer.points[1] = layer.points[0]
        layer.points[2] = layer.points[0] + 1e-9
    module._JITTER[torch.float64] = -1e-3
    assert layer.weights(inputs())[0].isnan().all()


@torch.no_grad()
def test_draws_of_an_expected_normal_are_around_the_uncertain_mean():
    fn = ExpectedNormal(torch.tensor([1.0, 2.0]), torch.zeros(()), torch.tensor([3.0, 0.0]), 1)
    x = fn.rsample((40_000,))
    torch.testing.assert_close(x.var(0), torch.tensor([4.0, 1.0]), rtol=0.03, atol=0)
    wide = MultivariateNormal(fn.mean, fn.variance.diag())
    torch.testing.assert_close(fn.entropy(), wide.entropy())
    assert (fn.log_prob(x) < wide.log_prob(x) + 1e-12).all()
    apart = fn.apart().log_prob(x[:5].unsqueeze(-1)).sum(-1)
    torch.testing.assert_close(apart, fn.log_prob(x[:5]))


# --- the pair -----------------------------------------------------------------------------------


def images(rows=40):
    return torch.rand(rows, 1, 2, 3, generator=torch.Generator().manual_seed(4))


def small(x=None, **options):
    torch.manual_seed(0)
    pair = DeepGPVAE(**{"encoder": MLP((5,)), "latent": 2, "inducing": 6, **options})
    pair.build(images() if x is None else x)
    return pair


@torch.no_grad()
def test_one_linear_layer_and_a_linear_encoder_are_probabilistic_pca():
    x = images()
    exact = ProbabilisticPCA(latent=2)
    exact.build(x)
    exact.maximise(x)
    pair = small(encoder=Affine(), inducing=2, kernel="linear")
    layer, posterior = pair.layers[0], exact.posterior(x)
    a, _ = layer.weights(torch.eye(2))
    layer.loc.copy_(torch.linalg.solve(a, exact.weight.T).T)
    layer.bias.copy_(exact.mean)
    layer.log_scale.fill_(-20.0)
    pair.noise.log_scale.copy_(exact.log_scale[0])
    scale = posterior.covariance_matrix[0].diagonal().sqrt()  # W has orthogonal columns
    net, slope = pair.encoder.net.last, torch.zeros(4, 6)
    start = exact.posterior(torch.zeros(1, 1, 2, 3)).mean[0]
    slope[:2] = (exact.posterior(torch.eye(6).reshape(6, 1, 2, 3)).mean - start).T
    net.weight.copy_(slope)
    net.bias.copy_(torch.cat([start, scale.log()]))
    found = log_likelihood(pair.model, pair.guide, x, particles=3)
    for bound in (found.elbo, found.log_likelihood):
        torch.testing.assert_close(bound, exact.log_likelihood(x), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("particles", [1, 4])
def test_the_inducing_values_enter_by_their_share(particles):
    pair, x = small(), images()[:10]
    assert pair.rows == 40
    phase = Phases(pair.model, pair.guide, columns={"x": x}, particles=particles).awake
    u, layer = phase.sample["u1"][0], pair.layers[0]
    z, q = phase.sample["z"], pair.encoder(x)
    share = (layer.prior().log_prob(u) - layer.posterior().log_prob(u)) / 40
    local = pair.explain(z, u).log_prob(x) + pair.prior().log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(phase.log_weight(), local)
    torch.testing.assert_close(phase.average(local), local.mean() + share)
    kl = kl_divergence(layer.posterior(), layer.prior()) / 40
    torch.testing.assert_close(phase.mean_kl("u1"), kl)


@torch.no_grad()
def test_pyros_own_bound_is_that_of_all_rows():
    pair, x = small(), images()[:10]
    with pyro.poutine.seed(rng_seed=3):
        theirs = Trace_ELBO().loss(pair.model, pair.guide, x)
    with pyro.poutine.seed(rng_seed=3):
        ours = ELBO()(pair.model, pair.guide, x)
    assert theirs == pytest.approx(40 * float(ours))


@torch.no_grad()
def test_in_evaluation_it_is_the_predictive_distribution_of_a_new_row():
    pair, x = small().eval(), images()[:10]
    phase = Phases(pair.model, pair.guide, columns={"x": x}).awake
    assert not phase.has_shared
    assert phase.latents == ("z",)
    layer, z = pair.layers[0], phase.sample["z"][0]
    a, spare = layer.weights(z)
    factor = layer.factor()
    variance = (a @ factor @ factor.T * a).sum(1) + spare + pair.noise.log_scale.exp() ** 2
    fn = phase.distribution("x", of="model")
    torch.testing.assert_close(fn.variance, variance[:, None, None, None].expand(x.shape))
    torch.testing.assert_close(fn.mean.flatten(1), a @ layer.loc.T + layer.bias)


@torch.no_grad()
def test_columns_of_a_table_have_their_units():
    x = torch.randn(40, 3) * torch.tensor([1e4, 1.0, 1e-4]) + 5
    pair = small(x).eval()
    z = torch.zeros(1, 2)
    unit, variance = pair.noise.unit, pair.layers[0](z)[1]
    expected = (variance + pair.noise.log_scale.exp() ** 2) * unit**2
    torch.testing.assert_close(pair.explain(z).variance, expected)
    given = pair.explain(z, pair.layers[0].loc)
    torch.testing.assert_close(given.uncertainty, pair.layers[0].weights(z)[1] * unit[None] ** 2)
    fixed = small(x, likelihood=Normal(0.5)).eval()  # in the data's units
    spare = fixed.layers[0](z)[1] * fixed.noise.unit**2
    torch.testing.assert_close(fixed.explain(z).variance, spare + 0.25)


@torch.no_grad()
def test_a_hidden_layer_without_a_function_is_none():
    deep, x = small(hidden=(2,)), images()
    plain = small()
    plain.load_state_dict(
        {
            k.replace("layers.1", "layers.0"): v
            for k, v in deep.state_dict().items()
            if not k.startswith("layers.0")
        }
    )
    with torch.no_grad():
        for name in ("log_amplitude", "log_slope"):
            getattr(deep.layers[0], name).fill_(-20.0)
    deep.eval()
    assert Phases(deep.model, deep.guide, columns={"x": x}).awake.latents == ("z", "h1")
    bounds = [
        log_likelihood(p.model, p.guide, x, particles=500).log_likelihood.mean()
        for p in (deep, plain)
    ]
    torch.testing.assert_close(*bounds, atol=5e-3, rtol=0)


def test_what_it_does_not_take_is_refused_in_words():
    with pytest.raises(ValueError, match="kernel must be one of rbf, linear, rbf"):
        DeepGPVAE(kernel="matern")
    for other in ("bernoulli", Normal("pixel")):
        with pytest.raises(ValueError, match="take likelihood='normal', with scale"):
            DeepGPVAE(likelihood=other)
    pair = small()
    with pytest.raises(ValueError, match="among 40 training rows, got a batch of 41"):
        pair.guide(images(41))
    pair.eval().guide(images(41))
    pair.train()
    with pytest.raises(ValueError, match="outside of the batch plate, once for all data"):
        IWAE(3, gradient="dreg")(pair.model, pair.guide, images())


# --- training -----------------------------------------------------------------------------------

SMALL = {"encoder": "mlp:8", "latent": 2, "inducing": 10, "batch_size": 50, "valid_every": 0}


@pytest.fixture(scope="module")
def digits():
    return Data.named("digits", rows=200, binarise="none")


@pytest.mark.parametrize("hidden", [(), (3,)])
def test_a_traced_step_is_the_eager_one_and_a_broken_run_goes_on(hidden, digits, tmp_path):
    torch.set_default_dtype(torch.float32)
    recipe, options = RECIPES["vae-dgp"], {**SMALL, "steps": 6, "hidden": hidden}
    back = check_traced_and_resumed(recipe, options, digits, tmp_path / "run", atol=1e-4)
    assert back.pair.rows == len(digits.train)


@pytest.mark.parametrize("hidden", [(), (3,)])
def test_what_judges_a_vae_judges_it(hidden, digits):
    torch.set_default_dtype(torch.float32)
    options = {**SMALL, "steps": 20, "hidden": hidden, "objective": "iwae:3", "precision": "bf16"}
    run = RECIPES["vae-dgp"].fit(digits, **options, compile="off")
    assert math.isfinite(run.history[-1]["loss"])
    names = ["nll", "imputation_nll", "reconstruction"] + (not hidden) * ["active_units"]
    report = evaluate(run, particles=20, limit=20, metrics=names, pictures=False)
    assert {r.name for r in report if r.applicable} == {*names}


def test_a_hidden_layer_that_both_programs_draw_alike_has_not_collapsed(digits):
    torch.set_default_dtype(torch.float32)
    options = {**SMALL, "hidden": (3,), "epochs": 3, "valid_every": 1, "compile": "off"}
    run = RECIPES["vae-dgp"].fit(digits, **options)
    assert run.history[-1]["kl.h1"] == 0 < run.history[-1]["kl.z"]
    assert not any("h1" in warning for warning in run.warnings)
    kl = evaluate(run, limit=20, metrics=["kl"], pictures=False)["kl"]
    assert "h1 0 nats" in kl.note
    assert not any("h1" in warning for warning in kl.warnings)


@pytest.mark.parametrize("objective", ["elbo:analytic_kl=true", "elbo:beta=0.5", "elbo:2"])
def test_other_weights_of_the_divergence_weigh_the_inducing_values_too(objective):
    pair, x = small(), images()
    loss = parse_objective(objective)
    with torch.no_grad(), pyro.poutine.seed(rng_seed=1):
        found = loss(pair.model, pair.guide, x)
    with torch.no_grad(), pyro.poutine.seed(rng_seed=1):
        phase = Phases(pair.model, pair.guide, columns={"x": x}).awake
    sampled = phase.log_q("z").mean() - phase.log_p("z").mean()
    shared = phase.mean_log_q(["u1"]) - phase.mean_log_p(["u1"])
    if loss.analytic_kl:
        sampled, shared = phase.mean_kl("z"), phase.mean_kl("u1")
    beta = float(loss.beta)
    torch.testing.assert_close(found, beta * (sampled + shared) - phase.log_p("x").mean())
