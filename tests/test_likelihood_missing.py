"""Missing features and known labels against the conditionals of linear-Gaussian pairs."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from tests.pairs import LinearGaussian
from torch.distributions import Independent, Normal

from priory.evaluation import Unavailable, evaluate
from priory.evaluation.likelihood.conditional import conditional_log_likelihood
from priory.evaluation.likelihood.imputation import half_shown, impute, missing_log_likelihood
from priory.evaluation.likelihood.masking import coordinate_log_prob
from priory.likelihoods import LIKELIHOODS

SEEN = torch.tensor([True, False, True, True, False])


def data(n, seed=0):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return LinearGaussian().marginal.sample((n,))


def conditional(pair, x):
    """p(x_hidden given x_seen)."""
    with torch.no_grad():
        s, m = pair.marginal.covariance_matrix, pair.b
        gain = s[~SEEN][:, SEEN] @ torch.linalg.inv(s[SEEN][:, SEEN])
        mean = m[~SEEN] + (x[:, SEEN] - m[SEEN]) @ gain.T
        return dist.MultivariateNormal(mean, s[~SEEN][:, ~SEEN] - gain @ s[SEEN][:, ~SEEN])


@pytest.mark.parametrize("widen", [1.0, 2.0])
def test_imputations_follow_the_conditional(widen):
    pair, x = LinearGaussian(widen=widen), data(3)
    holes = x.where(SEEN, torch.full_like(x, math.nan))
    drawn = impute(pair.model, pair.guide, holes, SEEN, chains=1500, steps=25)
    assert drawn.shape == (1500, 3, 5)
    assert torch.equal(drawn[:, :, SEEN], x[:, SEEN].expand(1500, -1, -1))
    distribution = conditional(pair, x)
    error = (drawn[:, :, ~SEEN].mean(0) - distribution.mean) / distribution.stddev
    assert error.abs().max() < 4 / math.sqrt(1500)
    covariance = torch.cov(drawn[:, 0, ~SEEN].T)
    assert torch.allclose(covariance, distribution.covariance_matrix[0], atol=0.2)


@pytest.mark.parametrize("widen", [1.0, 1.5])
def test_hidden_features_have_their_conditional_likelihood(widen):
    pair, x = LinearGaussian(widen=widen), data(20)
    found = missing_log_likelihood(
        pair.model, pair.guide, x, SEEN, particles=1000, chains=10, steps=10
    )
    error = found.log_likelihood - conditional(pair, x).log_prob(x[:, ~SEEN])
    assert error.abs().max() < 0.35
    assert abs(float(error.mean())) < 3 * float(error.std()) / math.sqrt(20) + 0.01


def test_nothing_hidden_costs_nothing():
    pair, x = LinearGaussian(), data(4)
    found = missing_log_likelihood(
        pair.model, pair.guide, x, torch.ones(5).bool(), particles=20, chains=4, steps=1
    )
    assert found.log_likelihood.abs().max() < 1e-9


@pytest.mark.parametrize("name", sorted(LIKELIHOODS.keys() - {"delta", "columns"}))
def test_coordinates_add_up_to_the_whole(name):
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(6, 3, 4, generator=draw) > 0.5).double()
    x = 0.2 + x / 2 if name in ("beta", "gamma") else x
    head = LIKELIHOODS[name]()
    head.build(x)
    distribution = head.double()(torch.randn(6, head.params, 3, 4, generator=draw).double())
    parts = coordinate_log_prob(distribution, x)
    assert parts.shape == x.shape
    assert torch.allclose(parts.sum((1, 2)), distribution.log_prob(x))
    other = x.clone()
    other[:, 0, 0] = 0.9 - other[:, 0, 0] if name in ("beta", "gamma") else 1 - other[:, 0, 0]
    changed = coordinate_log_prob(distribution, other) != parts
    assert changed[:, 0, 0].all()
    assert changed.sum() == 6


def test_dependent_features_are_refused():
    distribution = dist.MultivariateNormal(torch.zeros(2, 3), torch.eye(3))
    with pytest.raises(Unavailable, match=r"\(MultivariateNormal\) is not known to have"):
        coordinate_log_prob(distribution, torch.zeros(2, 3))
    library = Independent(Normal(torch.zeros(2, 3), 1.0), 1)
    assert coordinate_log_prob(library, torch.zeros(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(5), "mask must be boolean"),
        (torch.ones(4).bool(), r"of the shape \(3, 5\) or \(5,\)"),
    ],
)
def test_masks_that_do_not_fit(mask, message):
    pair = LinearGaussian()
    with pytest.raises(ValueError, match=message):
        impute(pair.model, pair.guide, data(3), mask)


def test_which_half_is_shown():
    mask, words = half_shown(torch.zeros(4, 1, 6, 5), 0)
    assert mask[:, :, :3].all()
    assert not mask[:, :, 3:].any()
    assert "lower" in words
    mask, words = half_shown(torch.zeros(50, 6), 0)
    assert torch.equal(mask.sum(1), torch.full((50,), 3))
    assert len(mask.unique(dim=0)) > 5
    assert torch.equal(mask, half_shown(torch.zeros(50, 6), 0)[0])
    record = evaluate(
        LinearGaussian(), data(9), metrics=["imputation_nll"], particles=100, pictures=False
    )["imputation_nll"]
    assert record.kind == "biased"
    assert "random half" in record.note


# Labels


class Labelled(LinearGaussian):
    """y moves the mean of x; it is drawn from a fixed law, or from one that z decides."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def model(self, x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(self.w[0]), 1.0).to_event(1))
            if self.kind == "root":
                pyro.sample("y", dist.Bernoulli(torch.tensor(0.3).double()), obs=y)
            elif self.kind == "leaf":
                pyro.sample("y", dist.Bernoulli(logits=3 * z[..., 0]), obs=y)
            mean = z @ self.w.T + self.b + (0 if self.kind == "leaf" else y[..., None])
            pyro.sample("x", dist.Normal(mean, self.log_s.exp()).to_event(1), obs=x)

    def guide(self, x, y):
        with pyro.plate("data", len(x)):
            moved = x if self.kind == "leaf" else x - y[..., None]
            pyro.sample("z", self.posterior(moved))


def labels(n):
    return (torch.arange(n) % 2).double()


@pytest.mark.parametrize("kind", ["argument", "root"])
def test_the_law_of_a_label_is_taken_off(kind):
    pair, x, y = Labelled(kind), data(6), labels(6)
    found = conditional_log_likelihood(pair.model, pair.guide, {"x": x, "y": y}, particles=3)
    truth = pair.marginal.log_prob(x - y[:, None])
    assert torch.allclose(found.log_likelihood, truth, atol=1e-9)
    assert found.exact
    assert found.given == ("y",)
    assert found.observed == (("y",) if kind == "root" else ())


def test_a_label_that_depends_on_latents_is_estimated():
    """log p(x | y) = log p(x) + log p(y | x) - log p(y), with p(y) = 1/2 by symmetry."""
    pair, x, y = Labelled("leaf"), data(8), labels(8)
    found = conditional_log_likelihood(pair.model, pair.guide, {"x": x, "y": y}, particles=20000)
    draws = pair.posterior(x).sample((20000,))[..., 0]
    given = dist.Bernoulli(logits=3 * draws).log_prob(y).exp().mean(0).log()
    truth = pair.marginal.log_prob(x) + given - math.log(0.5)
    assert torch.allclose(found.log_likelihood, truth, atol=0.06)
    assert not found.exact


def test_the_row_of_labels():
    pair, columns = Labelled("root"), {"x": data(6), "y": labels(6)}
    names = ["conditional_nll", "bits_per_dim"]
    report = evaluate(pair, columns, particles=5, metrics=names, pictures=False)
    assert report["conditional_nll"].kind == "upper bound"
    assert "log p(y) exact" in report["conditional_nll"].note
    assert "together, not of x alone" in report["bits_per_dim"].note
    plain = evaluate(LinearGaussian(), data(6), metrics=names, particles=5, pictures=False)
    assert "neither takes nor observes" in plain["conditional_nll"].note
