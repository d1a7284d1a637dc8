"""The tail of importance weights, and bits per dimension, against closed forms."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from tests.pairs import LinearGaussian

from priory.data.levels import level_spacing
from priory.distributions.pixels import IndependentLogistic
from priory.evaluation import evaluate, log_likelihood
from priory.evaluation.arviz.container import _psis, import_arviz
from priory.evaluation.likelihood.bits import nats_to_bits
from priory.evaluation.likelihood.pareto import Tail, khat, tail_length


def weights(s, particles, n, seed=0):
    """Log weights of N(0, s^2) over draws of N(0, 1)."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(particles, n, generator=draw, dtype=torch.float64)
    return 0.5 * z.square() * (1 - 1 / s**2) - math.log(s)


@pytest.mark.parametrize("s", [1.2, 1.5, 2.0])
def test_khat_tends_to_the_tail_of_normal_weights(s):
    """P(w > t) falls as t^(-1/k) with k = 1 - 1/s^2, up to a logarithm."""
    assert float(khat(weights(s, 100000, 40)).mean()) == pytest.approx(1 - 1 / s**2, abs=0.09)
    assert abs(float(khat(-weights(s, 100000, 40)).mean()) - (1 - 1 / s**2)) > 0.5


def test_khat_is_negative_where_weights_are_bounded():
    assert float(khat(weights(0.5, 5000, 20)).max()) < -1.0


@pytest.mark.parametrize("particles", [22, 63, 100, 400, 5000, 10_000])
def test_khat_agrees_with_arviz(particles):
    """ArviZ 1 rounds the tail's length down, and fits none of five; whole are those below."""
    if particles not in (100, 400, 10_000) and "InferenceData" not in vars(import_arviz()):
        pytest.skip("ArviZ 1 takes another number of weights for the tail")
    log_w = weights(1.7, particles, 7, seed=3)
    _, theirs = _psis()(log_w.double().numpy())
    assert khat(log_w).tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_khat_does_not_depend_on_blocks_order_or_scale():
    log_w = weights(2.0, 1000, 300)
    whole, tail = khat(log_w), Tail(1000)
    for block in (log_w[:3], log_w[3:500], log_w[500:]):
        tail.add(block)
    assert torch.equal(tail.khat(), whole)
    assert torch.allclose(khat(log_w.flip(0) + 300.0), whole, atol=1e-8)
    assert torch.allclose(khat(log_w.float()), whole, atol=1e-3)


def test_awkward_weights():
    assert tail_length(20) == 0
    assert khat(torch.randn(20, 3)).isnan().all()
    equal = -90 + 1e-5 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(khat(equal), torch.zeros(3).double())
    impossible = torch.full((100, 1), -math.inf)
    impossible[:3] = torch.arange(3.0)[:, None]
    assert khat(impossible).item() == math.inf
    assert khat(torch.full((100, 1), -math.inf)).item() == math.inf


def data(n):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return LinearGaussian().marginal.sample((n,))


@pytest.mark.parametrize("block", [None, (70, 9)])
def test_bounds_carry_khat(block):
    """A guide of c times the posterior's covariance has k = 1 - c in each dimension."""
    x, pair = data(40), LinearGaussian(widen=0.3)
    found = log_likelihood(pair.model, pair.guide, x, 1000, block=block).khat
    assert float(found.mean()) == pytest.approx(0.7, abs=0.1)
    assert log_likelihood(pair.model, pair.guide, x, 20, block=block).khat.isnan().all()
    exact = LinearGaussian()
    assert (log_likelihood(exact.model, exact.guide, x, 100, block=block).khat == 0).all()


def test_a_narrow_guide_is_found_out():
    x = data(40)
    wide, narrow = (
        evaluate(LinearGaussian(widen=c), x, particles=500, metrics=["nll", "khat"], pictures=False)
        for c in (1.5, 0.1)
    )
    assert wide["khat"].value == 0
    assert not wide["nll"].warnings
    assert narrow["khat"].value > 0.5
    assert "k-hat above 0.7" in narrow["nll"].warnings[0]
    assert "its median" in narrow["khat"].note


def uniform_pair(distribution):
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", distribution, obs=x)

    return SimpleNamespace(model=model, guide=lambda x: None)


def test_a_uniform_law_over_256_levels_has_eight_bits():
    levels = torch.arange(256).repeat(8)[torch.randperm(2048)].reshape(64, 32)
    mass = dist.Categorical(torch.ones(32, 256).double()).to_event(1)
    record = evaluate(uniform_pair(mass), {"x": levels}, metrics=["bits_per_dim"])["bits_per_dim"]
    assert record.value == pytest.approx(8, abs=1e-12)
    assert record.kind == "exact"
    density = dist.Uniform(torch.zeros(32).double(), 1.0).to_event(1)
    grey = levels.double() / 256
    record = evaluate(uniform_pair(density), grey, metrics=["bits_per_dim"])["bits_per_dim"]
    assert record.value == 8
    assert record.kind == "biased"
    assert "density on discrete levels" in record.warnings[0]


def test_a_logistic_mass_of_levels_has_bits_of_its_own():
    """Two levels that are equally likely: a bit each, and no density times a distance."""
    half = torch.full((32,), 0.5).double()
    mass = IndependentLogistic(half, torch.zeros(32).double(), 2, 1)
    x = torch.arange(2).double().repeat(16).expand(20, 32)
    record = evaluate(uniform_pair(mass), {"x": x}, metrics=["bits_per_dim"])["bits_per_dim"]
    assert record.value == pytest.approx(1, abs=1e-12)
    assert record.kind == "exact"


def test_a_density_off_levels_has_no_bits():
    distribution = dist.Normal(torch.zeros(5).double(), 1.0).to_event(1)
    x = torch.randn(50, 5).double()
    record = evaluate(uniform_pair(distribution), x, metrics=["bits_per_dim"])["bits_per_dim"]
    assert "lies on no levels" in record.note


@pytest.mark.parametrize("levels", [1, 16, 255, 256])
def test_levels_are_found(levels):
    x = torch.arange(levels + 1).reshape(1, -1) / levels
    assert level_spacing(x) == 1 / levels
    assert level_spacing(torch.rand(20, 3)) is None


def test_bits_change_with_the_scale_as_a_density_does():
    """A density in units c times as large is c times smaller, and so are its levels."""
    nats = torch.tensor([10.0]).double()
    scaled = nats_to_bits(nats + 5 * math.log(255), 5, 1.0)
    assert torch.allclose(nats_to_bits(nats, 5, 1 / 255), scaled)
