"""Relaxed bits: their density, their draws, and their limit of bits."""

import pytest
import torch
from scipy import stats
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli

from priory import evaluate
from priory.data import Data
from priory.distributions.concrete import LogitConcrete
from priory.inference import IWAE, fit
from priory.models import VAE
from priory.nets import MLP
from priory.posteriors import ConcretePosterior
from priory.priors import Concrete

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("temperature", [0.3, 2 / 3, 2.0])
def test_the_density_is_torchs_and_integrates_to_one(temperature):
    a = torch.tensor([-3.0, 0.0, 1.5])
    z = torch.linspace(-20, 20, 4001)[:, None]
    own = LogitConcrete(a, temperature)
    theirs = LogitRelaxedBernoulli(torch.tensor(temperature), logits=a)
    torch.testing.assert_close(own.log_prob(z), theirs.log_prob(z))
    wide = torch.linspace(-200, 200, 400_001)[:, None]
    total = torch.trapezoid(own.log_prob(wide).exp(), wide, dim=0)
    torch.testing.assert_close(total, torch.ones(3), atol=1e-6, rtol=0)


def test_draws_follow_the_density_and_carry_its_gradient():
    a = torch.tensor(0.7, requires_grad=True)
    own = LogitConcrete(a, 0.5)
    z = own.rsample((20_000,))
    assert stats.kstest(z.detach(), stats.logistic(1.4, 2.0).cdf).pvalue > 1e-3
    assert float(z.detach().mean()) == pytest.approx(float(own.mean.detach()), abs=0.1)
    assert float(z.detach().var()) == pytest.approx(float(own.variance), rel=0.1)
    (slope,) = torch.autograd.grad(z.mean(), a)
    assert float(slope) == pytest.approx(2.0)


def test_odds_of_any_size_have_finite_densities_and_gradients():
    a = torch.tensor([-1e30, -800.0, 0.0, 800.0, 1e30], requires_grad=True)
    z = torch.tensor([-1e4, 0.0, 1e4])[:, None]
    density = LogitConcrete(a, 2 / 3).log_prob(z)
    assert bool(density.isfinite().all())
    (slope,) = torch.autograd.grad(density.sum(), a)
    assert bool(slope.isfinite().all())


def test_relaxed_bits_tend_to_bits():
    draws = LogitConcrete(torch.full((50_000,), 0.8), 0.01).sample()
    bits = draws.sigmoid()
    assert float(((bits < 0.01) | (bits > 0.99)).double().mean()) > 0.95
    assert float((bits > 0.5).double().mean()) == pytest.approx(0.69, abs=0.01)


def test_a_vae_of_relaxed_bits_is_trained_and_judged():
    data = Data.named("digits")
    torch.set_default_dtype(torch.float32)
    pair = VAE(Concrete(), MLP((32,)), MLP((32,)), latent=8)
    run = fit(pair, IWAE(3), data, steps=120, lr=5e-3, valid_every=0)
    assert isinstance(pair.encoder.head, ConcretePosterior)
    report = evaluate(run, metrics=["nll", "kl", "active_units"], particles=50, limit=100)
    assert report["nll"].value < 29
    assert 0 < report["kl"].value < 30


def test_the_temperature_is_checked():
    with pytest.raises(ValueError, match="temperature must be positive"):
        Concrete(0.0)
