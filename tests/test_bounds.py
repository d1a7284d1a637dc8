"""Bounds with known answers: the linear-Gaussian pair, limits, and awkward plates."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pairs import LinearGaussian
from priory.inference import ELBO, IWAE, Linear, Match, Phases, Reconstruction, Renyi
from priory.inference.engine.fx_graph import Traced

KS = (1, 5, 50)


pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def x():
    return LinearGaussian().marginal.sample((7,))


@pytest.mark.parametrize("k", KS)
def test_exact_posterior_gives_log_p_with_zero_variance(x, k):
    pair = LinearGaussian()
    exact = pair.marginal.log_prob(x)
    awake = Phases(pair.model, pair.guide, (x,), particles=k).awake
    assert awake.log_weight().shape == (k, 7)
    torch.testing.assert_close(awake.log_weight(), exact.expand(k, 7), atol=1e-5, rtol=0)
    for objective in (IWAE(k), ELBO(particles=k)):
        loss = objective(pair.model, pair.guide, x)
        torch.testing.assert_close(loss, -exact.mean(), atol=1e-5, rtol=0)


def test_bounds_grow_with_particles_to_log_p(x):
    pair = LinearGaussian(widen=2.0, shift=0.3)
    many = x[:1].expand(20000, -1)
    bounds, errors = [], []
    for k in KS:
        awake = Phases(pair.model, pair.guide, (many,), particles=k).awake
        bound = awake.log_weight().logsumexp(0) - math.log(k)
        bounds.append(bound.mean())
        errors.append(bound.std() / len(many) ** 0.5)
    exact = pair.marginal.log_prob(x[0])
    assert bounds[0] + 3 * errors[0] < bounds[1] < bounds[2] < exact + 3 * errors[2]


@pytest.mark.parametrize("c", [1.5, 3.0])
def test_bias_of_a_widened_posterior(x, c):
    latent = 2
    pair = LinearGaussian(latent, widen=c)
    many = x[:1].expand(40000, -1)
    exact = pair.marginal.log_prob(x[0])
    for k, bias in (
        (1, -latent / 2 * (c - 1 - math.log(c))),
        (400, -((c / math.sqrt(2 * c - 1)) ** latent - 1) / (2 * 400)),
    ):
        rows = many if k == 1 else many[:2000]
        log_weight = Phases(pair.model, pair.guide, (rows,), particles=k).awake.log_weight()
        gap = log_weight.logsumexp(0) - math.log(k) - exact
        assert abs(gap.mean() - bias) < 3 * gap.std() / len(rows) ** 0.5 + 2 * bias**2


def test_maximum_likelihood_of_probabilistic_pca():
    """W = U (Lambda - s^2 I)^(1/2): Tipping and Bishop, 1999."""
    truth = LinearGaussian(latent=2, observed=4)
    x = truth.marginal.sample((500,))
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    s2 = values[:2].mean()
    best = dist.MultivariateNormal(
        x.mean(0),
        vectors[:, 2:] @ torch.diag(values[2:] - s2) @ vectors[:, 2:].T + s2 * torch.eye(4),
    )
    pair = LinearGaussian(latent=2, observed=4)
    optim = torch.optim.LBFGS(pair.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optim.zero_grad()
        loss = ELBO()(pair.model, pair.guide, x)
        loss.backward()
        return loss

    optim.step(closure)
    assert abs(closure().detach() + best.log_prob(x).mean()) < 1e-5


def by_hand(k, rows, scale=1.0):
    """Draw the latents that a program with the same seed draws, and score them by hand."""
    mean, sd = rows * 0.5, 1.3
    z = dist.Normal(mean, sd).sample((k,) if k > 1 else ())
    log_w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 0.8).log_prob(rows)
    log_w = scale * (log_w - dist.Normal(mean, sd).log_prob(z))
    return log_w.reshape(k, -1).logsumexp(0) - math.log(k)


def local_guide(x, plate=pyro.plate):
    with plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.5 * x, 1.3))


def local_model(x, plate=pyro.plate):
    with plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.8), obs=x)


def subsampled(name, size):
    return pyro.plate(name, 1000, subsample=torch.arange(size))


def value(objective, model, guide, x, engine):
    """A loss as an eager step computes it, or as a graph of it does."""
    if engine == "eager":
        return objective(model, guide, x)
    nothing = torch.zeros((), requires_grad=True)
    with pyro.validation_enabled(False):
        graph = Traced(lambda x: objective(model, guide, x) + 0 * nothing, [nothing], [x])
    if engine == "compiled":
        graph.compile([x])
    return graph([x])


def engines(*sizes):
    """Parameters for all sizes eager and traced, for the last ones compiled too."""
    every = list(itertools.product(*sizes, ["eager", "traced"]))
    return [*every, (*(s[-1] for s in sizes), "compiled")]


@pytest.mark.parametrize(
    ("size", "k", "scale", "plate", "engine"),
    engines([1, 7], KS, [None, 0.01, 3.0, "weights"], ["whole", "subsampled"]),
)
def test_bounds_under_plates_and_scales_are_per_datum(size, k, scale, plate, engine):
    """The batch plate's scale drops out, poutine.scale is inside, rows' weights are outside."""
    x = torch.linspace(-1, 2, size)
    model, guide = local_model, local_guide
    if plate == "subsampled":
        model, guide = partial(model, plate=subsampled), partial(guide, plate=subsampled)
    weight = torch.linspace(0.5, 2, size) if scale == "weights" else None
    factor = 1.0 if scale in (None, "weights") else scale
    if factor != 1:
        model, guide = poutine.scale(model, scale=factor), poutine.scale(guide, scale=factor)
    pyro.set_rng_seed(3)
    expected = -(by_hand(k, x, factor) * (1.0 if weight is None else weight)).mean()
    pyro.set_rng_seed(3)
    objective = IWAE(k) if weight is None else partial(IWAE(k), weight=weight)
    loss = value(objective, lambda x: model(x), lambda x: guide(x), x, engine)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "k", "engine"), engines([1, 7], KS))
def test_global_latent_is_shared_by_particles_and_data(size, k, engine):
    """(log p(w) - log q(w)) / N + mean of the local bounds given the one w."""
    x, whole = torch.linspace(-1, 2, size), 50

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 2.0))
        with pyro.plate("data", whole, subsample=torch.arange(size)):
            z = pyro.sample("z", dist.Normal(w, 1.0))
            pyro.sample("x", dist.Normal(z, 0.8), obs=x)

    def guide(x):
        pyro.sample("w", dist.Normal(0.3, 0.5))
        with pyro.plate("data", whole, subsample=torch.arange(size)):
            pyro.sample("z", dist.Normal(0.5 * x, 1.3))

    pyro.set_rng_seed(0)
    w = dist.Normal(0.3, 0.5).sample()
    z = dist.Normal(0.5 * x, 1.3).sample((k,))
    local = dist.Normal(w, 1.0).log_prob(z) + dist.Normal(z, 0.8).log_prob(x)
    local = (local - dist.Normal(0.5 * x, 1.3).log_prob(z)).logsumexp(0) - math.log(k)
    shared = dist.Normal(0.0, 2.0).log_prob(w) - dist.Normal(0.3, 0.5).log_prob(w)
    pyro.set_rng_seed(0)
    loss = value(IWAE(k), model, guide, x, engine)
    torch.testing.assert_close(loss, -(local.mean() + shared / whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", KS)
def test_renyi_elbo_of_pyro_differs_under_subsampling_and_ours_does_not(k):
    """The trap: Pyro's multi-sample bound puts the plate's scale inside the log-sum-exp."""
    x = torch.linspace(-1, 2, 7)
    model, guide = partial(local_model, plate=subsampled), partial(local_guide, plate=subsampled)
    renyi = pyro.infer.RenyiELBO(alpha=0, num_particles=max(k, 2), vectorize_particles=True)
    pyro.set_rng_seed(3)
    theirs = renyi.loss(model, guide, x) / 1000
    pyro.set_rng_seed(3)
    ours = -by_hand(max(k, 2), x).mean()
    assert abs(theirs - ours) > 1e-2


@pytest.mark.parametrize("k", KS)
def test_nested_plates_and_masks_are_summed_within_the_datum(k):
    x = torch.randn(7, 3)
    mask = torch.tensor([True, False, True])

    def model(x):
        with pyro.plate("data", 7, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(7, 1), 1.0))
            with pyro.plate("pixels", 3, dim=-1), poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(z, 0.8), obs=x)

    def guide(x):
        with pyro.plate("data", 7, dim=-2):
            pyro.sample("z", dist.Normal(0.5 * x[:, :1], 1.3))

    awake = Phases(model, guide, (x,), particles=k).awake
    z = awake.sample["z"]
    assert z.shape == (k, 7, 1)
    log_w = dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(0.5 * x[:, :1], 1.3).log_prob(z)
    log_w = log_w[..., 0] + (dist.Normal(z, 0.8).log_prob(x) * mask).sum(-1)
    torch.testing.assert_close(awake.log_weight(), log_w)


@pytest.mark.parametrize("k", KS)
def test_plate_to_the_left_of_the_datas_is_found(k):
    x = torch.randn(3, 7)

    def model(x):
        with pyro.plate("data", 7, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(7), 1.0))
            with pyro.plate("pixels", 3, dim=-2):
                pyro.sample("x", dist.Normal(z, 0.8), obs=x)

    def guide(x):
        with pyro.plate("data", 7, dim=-1):
            pyro.sample("z", dist.Normal(0.5 * x[0], 1.3))

    awake = Phases(model, guide, (x,), particles=k).awake
    z = awake.sample["z"].reshape(k, 1, 7)
    log_w = dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(0.5 * x[0], 1.3).log_prob(z)
    log_w = log_w[:, 0] + dist.Normal(z, 0.8).log_prob(x).sum(-2)
    torch.testing.assert_close(awake.log_weight(), log_w)


@pytest.mark.parametrize("k", KS)
def test_program_without_a_batch_plate_is_one_datum(k):
    x = torch.randn(4)

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("others", 4):
            pyro.sample("x", dist.Normal(w, 0.8), obs=x)

    def guide(x):
        pyro.sample("w", dist.Normal(0.2, 0.4))

    awake = Phases(model, guide, (x,), particles=k).awake
    w = awake.sample["w"].reshape(k, 1)
    assert len(w.unique()) == k
    log_w = dist.Normal(0.0, 1.0).log_prob(w) - dist.Normal(0.2, 0.4).log_prob(w)
    log_w = log_w + dist.Normal(w, 0.8).log_prob(x).sum(-1, keepdim=True)
    torch.testing.assert_close(awake.log_weight(), log_w)


def seeded(objective, pair, x):
    pyro.set_rng_seed(5)
    return objective(pair.model, pair.guide, x)


def test_limits(x):
    pair = LinearGaussian(widen=2.0)
    elbo = seeded(ELBO(), pair, x)
    torch.testing.assert_close(seeded(IWAE(1), pair, x), elbo, atol=1e-6, rtol=0)
    torch.testing.assert_close(seeded(ELBO(beta=1.0), pair, x), elbo, atol=1e-6, rtol=0)
    for k in KS:
        exact = seeded(ELBO(particles=k), pair, x)
        torch.testing.assert_close(seeded(Renyi(1.0, k), pair, x), exact, atol=1e-6, rtol=0)
        torch.testing.assert_close(seeded(Renyi(1 - 1e-8, k), pair, x), exact, atol=1e-6, rtol=0)
        torch.testing.assert_close(seeded(Renyi(0.0, k), pair, x), seeded(IWAE(k), pair, x))
    one = Linear(0.0, 1.0, 1)
    one.step = 1
    torch.testing.assert_close(seeded(ELBO(beta=one), pair, x), elbo, atol=1e-6, rtol=0)
    zero = seeded(ELBO(beta=0.0), pair, x)
    torch.testing.assert_close(zero, seeded(Reconstruction(), pair, x), atol=1e-6, rtol=0)


def test_sum_is_the_sum_of_its_terms_on_the_same_draws(x):
    pair = LinearGaussian(widen=2.0)
    distance = lambda a, b: (a.mean(0) - b.mean(0)).square().sum()  # noqa: E731
    parts = (Reconstruction(), Match(distance, "z"), ELBO())
    separate = [seeded(part, pair, x) for part in parts]
    expected = separate[0] + 10 * separate[1] + 0.5 * separate[2]
    total = seeded(parts[0] + 10 * parts[1] + parts[2] * 0.5, pair, x)
    torch.testing.assert_close(total, expected, atol=1e-6, rtol=0)


def test_closed_form_kl_is_exact_and_lowers_the_variance():
    class Diagonal(LinearGaussian):
        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x[:, :2], 0.7).to_event(1))

    pair = Diagonal()
    x = pair.marginal.sample((1,)).expand(5000, -1)
    pyro.set_rng_seed(0)
    awake = Phases(pair.model, pair.guide, (x,)).awake
    exact = torch.distributions.kl_divergence(
        dist.Normal(x[0, :2], 0.7), dist.Normal(0.0, 1.0)
    ).sum()
    torch.testing.assert_close(awake.kl("z"), exact.expand(1, 5000))
    sampled = awake.log_q("z") - awake.log_p("z")
    assert abs(sampled.mean() - exact) < 3 * sampled.std() / 5000**0.5
    few = x[:8]
    draws = {
        flag: torch.stack([ELBO(analytic_kl=flag)(pair.model, pair.guide, few) for _ in range(300)])
        for flag in (False, True)
    }
    gap = draws[True].mean() - draws[False].mean()
    assert abs(gap.detach()) < 3 * (draws[False].var() / 300 + draws[True].var() / 300) ** 0.5
    kl = (ELBO(analytic_kl=True) + -1 * Reconstruction())(pair.model, pair.guide, few)
    torch.testing.assert_close(kl, exact)


def test_closed_form_kl_is_left_out_where_the_guide_draws_in_another_order():
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Normal(x, 1.0))
            pyro.sample("a", dist.Normal(b, 1.0))

    awake = Phases(model, guide, (torch.zeros(3),)).awake
    assert awake.kl("b") is None
    assert awake.kl("a") is not None
