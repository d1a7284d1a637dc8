"""Priors against closed forms, and one contract for all of them."""

import copy
import math
import sys

import pytest
import torch
from pyro import distributions as dist
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import nn
from torch.distributions import Distribution

from pairs import SMALL_PRIORS
from priory.models import VAE
from priory.posteriors import posterior_for
from priory.priors import (
    PRIORS,
    ExemplarPrior,
    Flow,
    GaussianMixture,
    Normal,
    StickBreaking,
    VampPrior,
)
from priory.priors.mixture import NormalMixture
from processes import told

pytestmark = pytest.mark.usefixtures("double")


class Encoder(nn.Module):
    """A small amortised posterior of either family."""

    def __init__(self, latent, support):
        super().__init__()
        self.head = posterior_for(support)
        self.net = nn.Linear(4, self.head.params * latent)

    def forward(self, x):
        return self.head(self.net(x).unflatten(-1, (self.head.params, -1)))


PARTS = {
    **SMALL_PRIORS,
    "flow-iaf": lambda: Flow(2, (8,), "iaf"),
    "flow-maf": lambda: Flow(2, (8,), "maf"),
    "flow-realnvp": lambda: Flow(2, (8,), "realnvp"),
    "flow-nice": lambda: Flow(2, (8,), "nice"),
}
DATA = torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def built(name, latent=3, x=DATA):
    prior = PARTS[name]()
    prior.build(latent, x, Encoder(latent, prior.support))
    return prior.to(torch.float64)


def test_every_prior_is_tested():
    assert PRIORS.keys() <= PARTS.keys()


@pytest.mark.parametrize("name", PARTS)
def test_contract(name):
    prior = built(name)
    p = prior()
    assert isinstance(p, TorchDistributionMixin)
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    z = p.sample((5, 4))
    assert z.shape == (5, 4, 3)
    assert prior.support.check(z).all()
    density = p.log_prob(z)
    assert density.shape == (5, 4)
    torch.testing.assert_close(density[2, 1], p.log_prob(z[2, 1]))
    wide = p.expand([5, 4])
    assert (wide.batch_shape, wide.event_shape) == ((5, 4), (3,))
    assert wide.sample().shape == (5, 4, 3)
    torch.testing.assert_close(wide.log_prob(z), density)
    assert wide.log_prob(z[0]).shape == (5, 4)
    assert prior.embed(z).shape == (5, 4, prior.features)
    if p.has_rsample:
        assert p.rsample((2,)).shape == (2, 3)
    for key, parameter in prior.named_parameters():
        gradient = torch.autograd.grad(prior().log_prob(z).sum(), parameter, allow_unused=True)[0]
        assert gradient is not None, key
        assert gradient.isfinite().all(), key


@pytest.mark.parametrize("name", PARTS)
def test_saved_weights_load_into_one_built_on_zeros(name):
    prior, other = built(name), built(name, x=torch.zeros(7, 4))
    if name in ("vamp", "exemplar"):
        other._encode = prior._encode
    other.load_state_dict(prior.state_dict())
    z = prior().sample((4,))
    torch.testing.assert_close(other().log_prob(z), prior().log_prob(z), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name",
    ["mixture", "normal", "uniform", "vamp", "exemplar", "stick-breaking", "flow", "flow-maf"],
)
def test_one_latent_integrates_to_one(name):
    prior = built(name, latent=1)
    low, high = (1e-9, 1 - 1e-9) if name in ("stick-breaking", "uniform") else (-12.0, 12.0)
    grid = torch.linspace(low, high, 40_001)
    with torch.no_grad():
        area = torch.trapezoid(prior().log_prob(grid.unsqueeze(-1)).exp(), grid)
    assert area.item() == pytest.approx(1, abs=1e-4 if "flow" in name else 1e-6)


def test_normal_is_standard():
    z = torch.randn(7, 3)
    expected = dist.Normal(0.0, 1.0).expand([3]).to_event(1).log_prob(z)
    torch.testing.assert_close(built("normal")().log_prob(z), expected)


def test_one_component_is_standard_normal():
    prior = GaussianMixture(1)
    prior.build(3, DATA)
    z = torch.randn(7, 3) * 3
    torch.testing.assert_close(
        prior().log_prob(z), built("normal")().log_prob(z), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("components", [2, 3, 50])
def test_mixture_starts_at_mean_zero_and_variance_one(components):
    prior = GaussianMixture(components)
    prior.build(4, DATA)
    torch.testing.assert_close(prior().mean, torch.zeros(4))
    torch.testing.assert_close(prior().variance, torch.ones(4))
    again = GaussianMixture(components)
    torch.manual_seed(77)
    again.build(4, DATA)
    assert torch.equal(prior.loc, again.loc)


@pytest.mark.parametrize("narrow", [0.0, -6.0])
def test_mixture_is_the_librarys_in_both_precisions(narrow):
    logits, loc = torch.randn(6), torch.randn(6, 5)
    log_scale = torch.randn(6, 5) * 0.3 + narrow
    ours = NormalMixture(logits, loc, log_scale)
    components = dist.Normal(loc, log_scale.exp()).to_event(1)
    library = dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
    z = library.sample((50,))
    torch.testing.assert_close(ours.log_prob(z), library.log_prob(z))
    torch.testing.assert_close(ours.mean, library.mean)
    torch.testing.assert_close(ours.variance, library.variance)
    single = [t.float() for t in (logits, loc, log_scale)]
    small = NormalMixture(*single).log_prob(z.float())
    assert small.dtype == torch.float32
    exact = NormalMixture(*(t.double() for t in single)).log_prob(z.float().double())
    torch.testing.assert_close(small.double(), exact, rtol=1e-6, atol=1e-5)


def test_mixture_draws_have_its_moments():
    prior = GaussianMixture(3, spread=0.8)
    prior.build(2, DATA)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([1.0, 0.0, -1.0]))
    draws = prior().sample((100_000,))
    error = 5 * draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - prior().mean).abs() < error).all()
    torch.testing.assert_close(draws.var(0), prior().variance, rtol=0.02, atol=0)


@pytest.mark.parametrize("support", ["real", "unit_interval"])
def test_vamp_with_the_data_as_pseudo_inputs_is_the_aggregated_posterior(support):
    encoder = Encoder(3, getattr(torch.distributions.constraints, support))
    prior = VampPrior(len(DATA))
    prior.build(3, DATA, encoder)
    with torch.no_grad():
        prior.pseudo.copy_(DATA)
    posterior = encoder(DATA)
    z = posterior.sample((10,))
    each = posterior.expand([10, len(DATA), len(DATA)]).log_prob(z.unsqueeze(-2))
    aggregated = each.logsumexp(-1) - math.log(len(DATA))
    torch.testing.assert_close(prior().log_prob(z), aggregated, atol=1e-9, rtol=0)


def test_vamp_starts_at_rows_and_leaves_global_randomness_alone():
    encoder = Encoder(3, torch.distributions.constraints.real)
    state = torch.get_rng_state()
    priors = [VampPrior(5), VampPrior(5), VampPrior(5, seed=1), VampPrior(50)]
    for prior in priors:
        prior.build(3, DATA, encoder)
        nearest = torch.cdist(prior.pseudo, DATA).min(1).values
        assert (nearest < 0.06).all()
        assert ((prior.pseudo >= 0) & (prior.pseudo <= 1)).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(priors[0].pseudo, priors[1].pseudo)
    assert not torch.equal(priors[0].pseudo, priors[2].pseudo)
    assert len(torch.cdist(priors[0].pseudo, DATA).argmin(1).unique()) == 5


def test_vamp_keeps_pseudo_inputs_in_the_datas_range():
    encoder = Encoder(3, torch.distributions.constraints.real)
    inside, outside = VampPrior(5), VampPrior(5)
    inside.build(3, DATA, encoder)
    outside.build(3, DATA * 4 - 2, encoder)
    with torch.no_grad():
        inside.pseudo.add_(3)
        outside.pseudo.add_(3)
    assert torch.equal(inside.inputs(), torch.ones(5, 4))
    assert torch.equal(outside.inputs(), outside.pseudo)
    # The range is part of what is saved.
    fresh = VampPrior(5)
    fresh.build(3, torch.zeros(2, 4), encoder)
    fresh.load_state_dict(outside.state_dict())
    assert torch.equal(fresh.inputs(), outside.inputs())


def test_vamp_does_not_own_the_encoder():
    encoder = Encoder(3, torch.distributions.constraints.real)
    prior = VampPrior(5)
    prior.build(3, DATA, encoder)
    assert set(prior.state_dict()) == {"pseudo", "bounds"}

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.prior = encoder, prior

        def posterior(self, x):
            return self.encoder(x)

    pair = Holder()
    for encode in (encoder, pair.posterior):
        prior._encode = (encode,)
        twin = copy.deepcopy(pair)
        with torch.no_grad():
            twin.encoder.net.weight.zero_()
            twin.encoder.net.bias.zero_()
        z = torch.randn(4, 3)
        torch.testing.assert_close(twin.prior().log_prob(z), built("normal")().log_prob(z))
        assert (prior().log_prob(z) - twin.prior().log_prob(z)).abs().min() > 1e-6
    with pytest.raises(ValueError, match="no encoder"):
        VampPrior(5).build(3, DATA)


def test_exemplars_are_normals_of_one_scale_around_the_codes_of_rows():
    encoder = Encoder(3, torch.distributions.constraints.real)
    state = torch.get_rng_state()
    prior = ExemplarPrior(5)
    prior.build(3, DATA, encoder)
    assert torch.equal(state, torch.get_rng_state())
    assert set(prior.state_dict()) == {"exemplars", "log_scale"}
    rows = (prior.exemplars[:, None] == DATA).all(-1).nonzero()[:, 1]
    assert len(rows.unique()) == 5
    with torch.no_grad():
        prior.log_scale.fill_(-0.7)
    z = torch.randn(7, 3)
    around = dist.Normal(encoder(DATA[rows]).mean, math.exp(-0.7)).to_event(1)
    by_hand = around.log_prob(z[:, None]).logsumexp(-1) - math.log(5)
    torch.testing.assert_close(prior().log_prob(z), by_hand)
    prior().log_prob(z).sum().backward()
    assert encoder.net.weight.grad.abs().sum() > 0  # the encoder learns where the exemplars lie
    assert not any(p is prior.exemplars for p in prior.parameters())


def test_one_exemplar_is_a_normal_and_more_than_rows_are_repeated():
    encoder = Encoder(3, torch.distributions.constraints.real)
    one, many, z = ExemplarPrior(1, seed=4), ExemplarPrior(2 * len(DATA)), torch.randn(7, 3)
    one.build(3, DATA, encoder)
    normal = dist.Normal(encoder(one.exemplars).mean[0], one.log_scale.exp()).to_event(1)
    torch.testing.assert_close(one().log_prob(z), normal.log_prob(z))
    many.build(3, DATA, encoder)
    every = dist.Normal(encoder(DATA).mean, 1.0).to_event(1).log_prob(z[:, None])
    torch.testing.assert_close(many().log_prob(z), every.logsumexp(-1) - math.log(len(DATA)))


def test_exemplars_need_the_means_of_normal_posteriors():
    full, drawn = (VAE(ExemplarPrior(4), latent=2, posterior=p) for p in ("full", "mixture"))
    for pair in (full, drawn):
        pair.build(DATA)
    assert full.prior().log_prob(torch.zeros(2)).isfinite()
    with pytest.raises(ValueError, match="means of normal posteriors, and this pair's are"):
        drawn.prior()
    with pytest.raises(ValueError, match="ExemplarPrior is made of the posteriors"):
        ExemplarPrior(5).build(3, DATA)


@pytest.mark.parametrize("concentration", [0.5, 1.0, 5.0])
def test_stick_weights(concentration):
    prior = StickBreaking(concentration)
    prior.build(6, DATA)
    prior.to(torch.float64)
    draws = prior().sample((200_000,))
    weights = prior.weights(draws)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(draws)), atol=1e-8, rtol=0)
    share = concentration / (1 + concentration)
    expected = (1 - share) * share ** torch.arange(6)
    error = 4 * weights.std(0)[:6] / math.sqrt(len(draws))
    assert ((weights.mean(0)[:6] - expected).abs() < error).all()
    # The weights are linear in each share, so their mean is exact at the mean share.
    exact = prior.weights(torch.full((6,), 1 / (1 + concentration)))
    torch.testing.assert_close(exact[:6], expected, atol=1e-8, rtol=0)


def test_sticks_in_single_precision():
    prior = StickBreaking(0.1)
    prior.build(50, DATA)
    prior.to(torch.float32)
    z = prior().sample((5000,))
    assert ((z > 0) & (z < 1)).all()
    assert prior().log_prob(z).isfinite().all()
    edge = torch.tensor([0.0, 1.0, 0.5], requires_grad=True, dtype=torch.float32)
    weights = prior.weights(edge)
    weights.square().sum().backward()
    assert edge.grad.isfinite().all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float32))
    sums = prior.weights(z).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["nsf", "maf", "iaf", "realnvp", "nice"])
def test_flow_density_by_the_jacobian(kind):
    prior = Flow(2, (8,), kind)
    prior.build(3, DATA)
    prior.to(torch.float64)
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.3)
    transform = prior.net().transform
    z = torch.randn(3)
    jacobian = torch.autograd.functional.jacobian(transform, z)
    base = -0.5 * (transform(z).square().sum() + 3 * math.log(2 * math.pi))
    expected = base + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(prior().log_prob(z), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(transform.inv(transform(z)), z, atol=1e-5, rtol=0)


def test_flow_leaves_the_validation_switch_alone(tmp_path):
    script = """
        import sys
        import torch
        from torch.distributions import Distribution
        from priory.priors import Flow

        assert "zuko" not in sys.modules
        before = Distribution._validate_args
        flow = Flow(1, (4,))
        flow.build(2, torch.zeros(1, 2))
        flow().sample((3,))
        assert "zuko" in sys.modules
        assert Distribution._validate_args is before is True
    """
    code, _, err = told(script, tmp_path)
    assert code == 0, err
    before = Distribution._validate_args
    built("flow")
    assert Distribution._validate_args is before


def test_flow_without_zuko_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    before = Distribution._validate_args
    with pytest.raises(ImportError, match=r"pip install 'priory\[flows\]'"):
        Flow().build(2, DATA)
    assert Distribution._validate_args is before


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="latent must be a positive integer, got 0"):
        Normal().build(0, DATA)
    with pytest.raises(RuntimeError, match="call build first"):
        Normal()()
    prior = built("normal")
    prior.build(3, DATA)
    with pytest.raises(ValueError, match="Normal is built for 3, got 4"):
        prior.build(4, DATA)
    for make in (GaussianMixture, VampPrior, ExemplarPrior):
        with pytest.raises(ValueError, match="components must be a positive integer, got 0"):
            make(0)
    with pytest.raises(ValueError, match="spread must be in"):
        GaussianMixture(spread=1.0)
    with pytest.raises(ValueError, match="concentration must be positive, got -1"):
        StickBreaking(-1)
    with pytest.raises(ValueError, match="transforms must be a positive integer"):
        Flow(0)
    with pytest.raises(ValueError, match="nearest 'nsf'"):
        Flow(kind="nfs")
    with pytest.raises(ValueError, match="use 'nsf'"):
        Flow(kind="realnvp").build(1, DATA)


def test_the_inverse_autoregressive_flow_is_the_inverse_of_the_autoregressive_one():
    flows = []
    for kind in ("maf", "iaf"):
        torch.manual_seed(0)
        flows.append(Flow(2, (8,), kind))
        flows[-1].build(3, DATA)
    forward, inverse = (flow.double().net().transform for flow in flows)
    z = torch.randn(7, 3)
    torch.testing.assert_close(inverse.inv(z), forward(z))
    slopes = forward.log_abs_det_jacobian(z, forward(z))
    torch.testing.assert_close(inverse.log_abs_det_jacobian(forward(z), z), -slopes)
    assert (forward(z) - z).abs().max() > 0.01
