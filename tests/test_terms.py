"""Terms of an objective: what is compared awake, asleep, or across the two."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pairs import LinearGaussian
from priory.data import Data
from priory.inference import (
    ELBO,
    KL,
    SVI,
    Adversarial,
    Classification,
    Phases,
    Reconstruction,
    Sleep,
    fit,
)
from priory.inference.objectives import COSTS, SCHEDULES
from priory.inference.objectives.terms import Match
from priory.inference.svi import NonFinite
from priory.models import VAE, HierarchicalVAE
from priory.nets import MLP
from priory.parsing import parse_objective
from priory.serialisation import from_config, to_config


@pytest.fixture
def x():
    return LinearGaussian().marginal.sample((200,)).detach()


def phases(pair, **columns):
    return Phases(pair.model, pair.guide, columns=columns)


# --- bounds in parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("analytic", [False, True])
def test_reconstruction_and_divergence_are_the_bound(x, analytic):
    pair = VAE(latent=2, likelihood="normal")
    pair.build(x)
    both = phases(pair, x=x)
    parts = (Reconstruction() + KL(analytic)).loss(both)
    torch.testing.assert_close(parts, ELBO(analytic_kl=analytic).loss(both))


# --- an autoencoder of means ----------------------------------------------------------------------

POINT = Reconstruction(point=True)


def test_a_point_is_reconstructed_from_the_means(x):
    pair = VAE(latent=2, likelihood="normal")
    pair.build(x)
    by_hand = -pair.decoder(pair.encoder(x).mean).log_prob(x).mean()
    torch.testing.assert_close(POINT.loss(phases(pair, x=x)), by_hand)
    drawn = Reconstruction().loss(phases(pair, x=x))
    assert (drawn - by_hand).detach().abs() > 1e-3
    (slope,) = torch.autograd.grad(by_hand, pair.encoder.net.last.weight)
    POINT.loss(phases(pair, x=x)).backward()
    torch.testing.assert_close(pair.encoder.net.last.weight.grad, slope)


def test_the_mean_of_a_layer_is_that_given_the_mean_below(x):
    pair = HierarchicalVAE(latents=(3, 2), likelihood="normal")
    pair.build(x)
    awake, again = (phases(pair, x=x).at_means for _ in range(2))
    for site in ("z1", "z2"):
        mean = awake.distribution(site, of="guide").mean
        torch.testing.assert_close(awake.sample[site].squeeze(0), mean)
        torch.testing.assert_close(awake.sample[site], again.sample[site])


class Chooses(nn.Module):
    """Draws a category in the guide."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(c.to(x)[:, None], 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(torch.ones(len(x), 3)))


@pytest.mark.parametrize("pair", [VAE(latent=2, posterior="iaf", likelihood="normal"), Chooses()])
def test_a_latent_without_a_mean_is_refused(pair, x):
    if isinstance(pair, VAE):
        pair.build(x)
    with pytest.raises(ValueError, match=r"cannot be taken at its mean: .* has none that is"):
        POINT.loss(phases(pair, x=x))


class Shared(nn.Module):
    """A global location that all data share."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def model(self, x):
        w = pyro.sample("w", dist.Normal(torch.zeros(()).double(), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(self, x):
        pyro.module("shared", self)
        pyro.sample("w", dist.Normal(self.loc, 0.5))


def test_the_divergence_has_a_global_latents_share():
    torch.manual_seed(0)
    both = phases(Shared(), x=torch.randn(10).double())
    torch.testing.assert_close((Reconstruction() + KL()).loss(both), ELBO().loss(both))


# --- asleep ---------------------------------------------------------------------------------------


def test_asleep_the_exact_posterior_costs_its_entropy(x):
    pair = LinearGaussian()
    distribution = pair.posterior(x)
    values = torch.stack([Sleep("z").loss(phases(pair, x=x)).detach() for _ in range(50)])
    entropy = distribution.entropy()[0].detach()
    se = values.std() / math.sqrt(len(values))
    assert (values.mean() - entropy).abs() < 3 * se
    squares = torch.stack(
        [Sleep("z", cost="squared").loss(phases(pair, x=x)).detach() for _ in range(50)]
    )
    trace = distribution.covariance_matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[0].detach()
    assert (squares.mean() - trace).abs() < 3 * squares.std() / math.sqrt(len(squares))


def test_the_gradient_of_sleep_flows_through_the_dream():
    pair = VAE(latent=2, encoder=MLP((8,)), decoder=MLP((8,)), likelihood="normal")
    pair.build(torch.randn(20, 3))
    Sleep().loss(phases(pair, x=torch.randn(20, 3))).backward()
    assert all(p.grad is not None for p in pair.encoder.parameters())
    assert all(p.grad is not None for p in pair.decoder.parameters())


def test_all_latents_are_looked_for_if_none_is_named(x):
    pair = LinearGaussian()
    both = phases(pair, x=x)
    assert Sleep().loss(both) == Sleep("z").loss(both)


def test_asleep_no_latent_of_the_data_is_drawn(x):
    both = phases(LinearGaussian(), x=x)
    assert not Sleep("z").needs_awake(both)
    assert not Adversarial(MLP(()), "x").needs_awake(both)
    assert Match(lambda a, b: (a - b).sum(), "z").needs_awake(both)
    assert (Sleep("z") + Reconstruction()).needs_awake(both)


# --- costs ----------------------------------------------------------------------------------------


def test_a_cost_is_of_the_mean(x):
    pair = LinearGaussian()
    both = phases(pair, x=x)
    error = x - both.awake.sample["z"][0] @ pair.w.T - pair.b
    squared = Reconstruction(cost="squared").loss(both)
    torch.testing.assert_close(squared, error.square().sum(1).mean())
    absolute = Reconstruction(cost="absolute").loss(both)
    torch.testing.assert_close(absolute, error.abs().sum(1).mean())


def test_features_are_those_of_the_sums_critic():
    x = torch.randn(20, 3)
    pair = VAE(latent=2, encoder=MLP((8,)), decoder=MLP((8,)), likelihood="normal")
    pair.build(x)
    loss = parse_objective("kl + reconstruction:cost=features + adversarial:x:critic=(mlp:16)")
    (adversary,) = loss.adversaries()
    both = phases(pair, x=x)
    adversary.build(both)
    reconstruction = loss.terms()[1]
    value = reconstruction.loss(both)
    features = adversary.critic.features
    mean = both.awake.distribution("x", of="model").mean
    seen, meant = (features(pair.likelihood.read(values)) for values in (x, mean))
    torch.testing.assert_close(value, (meant - seen).square().sum(1).mean())
    value.backward()
    assert all(p.grad is None for p in adversary.critic.parameters())
    assert all(p.grad is not None for p in pair.encoder.parameters())
    again = from_config(to_config(loss))
    assert again.terms()[1]._critic is again.adversaries()[0].critic


def test_features_without_a_critic_are_refused(x):
    loss = Reconstruction(cost="features") + Adversarial(MLP(()), "z")
    with pytest.raises(ValueError, match=r"needs a critic of .x. alone in the same sum"):
        loss(*programs(LinearGaussian()), x)


def programs(pair):
    return pair.model, pair.guide


def test_a_point_mass_needs_a_cost(x):
    pair = VAE(latent=2, likelihood="delta", deterministic=True)
    pair.build(x)
    with pytest.raises(ValueError, match=r"point mass in the model.*cost='squared'"):
        Reconstruction()(*programs(pair), x)
    with pytest.raises(ValueError, match="point mass in the guide"):
        Sleep("z")(*programs(pair), x)
    assert Reconstruction(cost="squared")(*programs(pair), x) > 0
    assert Sleep("z", cost="absolute")(*programs(pair), x) > 0


@pytest.mark.parametrize("cost", COSTS)
def test_a_cost_is_of_each_row_and_of_the_difference_alone(cost):
    a, b = torch.randn(2, 5, 1, 8, 8)
    found = COSTS[cost](a, b)
    assert found.shape == (5,)
    assert (found > 0).all()
    torch.testing.assert_close(found, COSTS[cost](b, a))
    torch.testing.assert_close(found[1:], COSTS[cost](a[1:], b[1:]))
    torch.testing.assert_close(COSTS[cost](a, a), torch.zeros(5))
    torch.testing.assert_close(COSTS[cost](a + 7, b + 7), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_goes_from_its_start_to_its_end_and_stays(schedule):
    made = SCHEDULES[schedule](2.0, 0.5, 10)
    values = [made.at(step) for step in range(12)]
    assert (values[0], values[10], values[11]) == pytest.approx((2.0, 0.5, 0.5))
    assert values == sorted(values, reverse=True)


def test_an_unknown_cost_lists_those_there_are():
    with pytest.raises(ValueError, match="unknown cost 'sqared'; there are likelihood, absolute"):
        Reconstruction(cost="sqared")


# --- labels ---------------------------------------------------------------------------------------


class Classes(nn.Module):
    """A categorical code, of which the guide's logits are the data themselves."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(c, 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("classes", self)
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.OneHotCategoricalStraightThrough(logits=self.scale * x))


def test_classification_reads_the_labels_that_it_may_see():
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    costs = torch.nn.functional.cross_entropy(x, y, reduction="none")
    term = Classification("c")
    torch.testing.assert_close(term.loss(phases(Classes(), x=x, y=y)), costs.mean())
    seen = torch.tensor([True, False, False, True, False, False])
    found = term.loss(phases(Classes(), x=x, y=y, labelled=seen))
    torch.testing.assert_close(found, costs[[0, 3]].mean())
    none = term.loss(phases(Classes(), x=x, y=y, labelled=torch.zeros(6, dtype=torch.bool)))
    assert none == 0


def test_a_label_out_of_range_stops_the_step():
    pair, x = Classes(), torch.randn(6, 3)
    svi = SVI(pair.model, pair.guide, torch.optim.Adam, Classification("c"))
    with pytest.raises(NonFinite):
        svi.step(x=x, y=torch.tensor([0, 1, 3, 0, 0, 0]))


def test_classification_says_what_it_lacks(x):
    pair = LinearGaussian()
    with pytest.raises(ValueError, match=r"needs the column 'y', the data have x"):
        Classification("z").loss(phases(pair, x=x))
    with pytest.raises(ValueError, match=r"needs a categorical distribution at 'z'"):
        Classification("z").loss(phases(pair, x=x, y=torch.zeros(len(x), dtype=torch.long)))


def test_what_the_model_takes_but_does_not_draw_is_its_column():
    class Given(Classes):
        def model(self, x, y):
            super().model(x)

    y = torch.arange(4)
    assert phases(Given(), x=torch.randn(4, 3), y=y).sampled("y") is y


def test_a_deterministic_encoder_is_an_autoencoder():
    data = Data.from_arrays(x=torch.randn(300, 4).numpy())
    nets = {"encoder": MLP((16,)), "decoder": MLP((16,))}
    pair = VAE(**nets, latent=4, likelihood="delta", deterministic=True)
    run = fit(pair, Reconstruction(cost="squared"), data, steps=300, lr=1e-2)
    assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]
