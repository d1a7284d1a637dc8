"""Infusion training against enumeration and quadrature: bounds, gradients, limits of the rate."""

import math

import pyro
import pytest
import torch

from priory.data import Data
from priory.distributions.independent import IndependentNormal
from priory.distributions.infused import Infused
from priory.distributions.pixels import IndependentBernoulli
from priory.evaluation import Unavailable, encode, evaluate
from priory.inference import ELBO, IWAE, Infuse, Phases, Wake, fit
from priory.inference.validation import validation_bound
from priory.models import VAE, Infusion
from priory.nets import TimeMLP
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed
from ways import Leaning, exact_bound, matrix, scores, states, stirred, ways

pytestmark = pytest.mark.usefixtures("double")


def of_bits(steps=3, rate=0.2, n=2):
    x = (torch.rand(40, n) < torch.linspace(0.2, 0.7, n)).double()
    pair = Infusion(TimeMLP(8, 1), timesteps=steps, rate=rate, likelihood="bernoulli")
    return stirred(pair, x)


# --- bits: enumeration ----------------------------------------------------------------------------


@torch.no_grad()
def test_the_bound_by_all_ways_and_by_matrices():
    pair = of_bits()
    every, x = ways(2, 3), torch.tensor([1.0, 0.0])
    index = int((states(2) == x).all(1).nonzero())
    exact = pair.start().log_prob(states(2)).exp()
    for t in (3, 2, 1):
        exact = exact @ matrix(pair, t, 2)
    torch.testing.assert_close(exact.sum(), torch.tensor(1.0), rtol=1e-12, atol=0)
    log_p, log_q = scores(pair, every, x)
    torch.testing.assert_close(log_p.exp().sum(), exact[index], rtol=1e-12, atol=0)
    torch.testing.assert_close(log_q.exp().sum(), torch.tensor(1.0), rtol=1e-12, atol=0)

    log_w, q = log_p - log_q, log_q.exp()
    bounds = [(q * log_w).sum()]
    pairs = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    bounds.append((q[:, None] * q * pairs).sum())
    gaps = [float(exact[index].log() - bound) for bound in bounds]
    assert gaps[0] > gaps[1] + 0.01 > 0.02  # K = 1, 2: lower bounds, and the second is tighter

    rows = x.expand(4000, 2)
    for k, bound in enumerate(bounds, 1):
        drawn = Phases(pair.model, pair.guide, (rows,), particles=k).awake.log_weight()
        found = drawn.logsumexp(0) - math.log(k)
        assert abs(found.mean() - bound) < 4 * found.std() / len(rows) ** 0.5
    weights = Phases(pair.model, pair.guide, (rows,)).awake.log_weight().exp()
    assert abs(weights.mean() - exact[index]) < 4 * weights.std() / len(rows) ** 0.5


@torch.no_grad()
def test_without_infusion_the_guide_is_the_models_own_chain():
    pair, x = of_bits(rate=0.0), torch.tensor([0.0, 1.0])
    every = ways(2, 3)
    log_p, log_q = scores(pair, every, x)
    last = pair.observe(pair.transition(every[:, 0], torch.tensor(1))).log_prob(x)
    torch.testing.assert_close(log_p - log_q, last, rtol=0, atol=1e-12)


@torch.no_grad()
def test_all_of_it_infused_at_once_is_plain_denoising():
    pair, x = of_bits(rate=1.0), states(2)
    z = pair.towards(x).sample()
    assert torch.equal(z, x.unsqueeze(1).expand(4, 3, 2))
    awake = Phases(pair.model, pair.guide, (x,)).awake
    terms = [pair.transition(x, torch.tensor(t)).log_prob(x) for t in (1, 2, 3)]
    torch.testing.assert_close(pair.costs(x), -torch.stack(terms, 1))
    torch.testing.assert_close(awake.log_q().squeeze(0), torch.zeros(4))
    exact = sum(terms) + pair.start().log_prob(x)
    torch.testing.assert_close(awake.log_weight().squeeze(0), exact)
    every = scores(pair, ways(2, 3), x[0])[1]
    assert every.exp().sum() == pytest.approx(1.0)


@torch.no_grad()
def test_a_chain_of_one_step_has_its_divergence_in_closed_form():
    pair, x = of_bits(steps=1, rate=0.3), states(2)
    p = pair.start().mean
    q = 0.7 * p + 0.3 * x
    kl = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum(1)
    said = pair.transition(states(2), torch.tensor(1)).logits
    each = torch.stack([IndependentBernoulli(said, 1).log_prob(row) for row in x])
    mass = torch.stack([IndependentBernoulli(row.logit(), 1).log_prob(states(2)) for row in q])
    exact = (mass.exp() * each).sum(1) - kl
    for row, bound in zip(x, exact, strict=True):
        log_p, log_q = scores(pair, ways(2, 1), row)
        torch.testing.assert_close((log_q.exp() * (log_p - log_q)).sum(), bound)


# --- real numbers: quadrature ---------------------------------------------------------------------


def leaning():
    pair = Infusion(Leaning(), timesteps=2, rate=0.25, width=0.3)
    pair.build(torch.tensor([[-1.0], [1.0]]))
    return pair


def test_infused_numbers_are_their_mixture():
    p = IndependentNormal(torch.tensor([[0.5, -1.0]]), torch.tensor([[-0.3, 0.2]]), 1)
    x, share, width = torch.tensor([[1.5, 0.5]]), torch.tensor([[0.3]]), 0.2
    q = Infused(p, x, share, width)
    parts = [torch.distributions.Normal(m, s) for m, s in ((p.loc, p.scale), (x, width))]
    value = torch.randn(7, 1, 2)
    mixed = 0.7 * parts[0].log_prob(value).exp() + 0.3 * parts[1].log_prob(value).exp()
    torch.testing.assert_close(q.log_prob(value), mixed.log().sum(-1))
    drawn = q.sample((40_000,))[:, 0]
    mean = 0.7 * p.loc + 0.3 * x
    square = 0.7 * (p.variance + p.loc**2) + 0.3 * (width**2 + x**2)
    for found, exact in ((drawn, mean), (drawn**2, square)):
        assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / 200).all()


def test_a_draw_has_the_mixtures_own_gradient():
    loc, log_scale = (torch.tensor([v], requires_grad=True) for v in (0.5, -0.3))
    rows = IndependentNormal(loc.expand(40_000, 1), log_scale.expand(40_000, 1), 1)
    z = Infused(rows, torch.tensor([1.5]), torch.tensor([0.3]), 0.2).rsample()
    found = torch.autograd.grad(z.square().sum() + 0 * loc.sum(), (rows.loc, rows.log_scale))
    variance = float((2 * log_scale.detach()).exp())
    for slope, exact in zip(found, (0.7 * 2 * 0.5, 0.7 * 2 * variance), strict=True):
        assert abs(slope.mean() - exact) < 4 * slope.std() / 200
    alone = Infused(rows, torch.tensor([1.5]), torch.tensor([0.0]), 0.2).rsample()
    (slope,) = torch.autograd.grad(alone.sum(), rows.loc)
    torch.testing.assert_close(slope, torch.ones_like(slope))  # nothing is infused: m + s e


@pytest.mark.parametrize("gradient", ["pathwise", "stl"])
def test_the_bounds_gradient_by_quadrature(gradient):
    """The net is the guide's as well, and its part there has a gradient too."""
    pair, x = leaning(), torch.tensor([0.7])
    bound = exact_bound(pair, x)
    (exact,), bound = torch.autograd.grad(bound, pair.net.weight), bound.detach()
    found, values = [], []
    for _ in range(40):
        loss = ELBO(gradient=gradient)(pair.model, pair.guide, x.expand(500, 1))
        values.append(-float(loss.detach()))
        found.append(-torch.autograd.grad(loss, pair.net.weight)[0])
    found, values = torch.stack(found), torch.tensor(values)
    assert abs(values.mean() - bound) < 4 * values.std() / 40**0.5
    assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / 40**0.5).all()
    alone = scores(pair, pair.towards(x.expand(2, 1)).sample(), x)[0].sum()
    assert (torch.autograd.grad(alone, pair.net.weight)[0] - exact).abs().max() > 0.05


def test_a_guide_of_constants_is_scored_by_constants():
    """Its way is scored when the program is over, and its parameters are the model's too."""
    pair, x = leaning(), torch.tensor([[0.7], [-0.4]])
    phases = Phases(pair.model, pair.guide, (x,), particles=3)
    fixed = phases.by_constants(leaves=True)
    (missing,) = torch.autograd.grad(
        fixed.log_q().sum(), pair.net.weight, allow_unused=True, retain_graph=True
    )
    assert missing is None
    torch.testing.assert_close(fixed.log_q(), phases.awake.log_q())
    assert torch.autograd.grad(fixed.log_p().sum(), pair.net.weight)[0].abs().min() > 0
    assert torch.autograd.grad(phases.awake.log_q().sum(), pair.net.weight)[0].abs().min() > 0


# --- the training ---------------------------------------------------------------------------------


def test_infuse_weighs_the_steps():
    pair, x = of_bits(steps=4), states(2)
    losses = {}
    for weights in ("rising", "even", "last"):
        pyro.set_rng_seed(0)
        losses[weights] = float(Infuse(weights)(pair.model, pair.guide, x).detach())
    pyro.set_rng_seed(0)
    costs = pair.costs(x).detach().mean(0)
    assert losses["even"] == pytest.approx(float(costs.sum()))
    assert losses["last"] == pytest.approx(float(costs[0]))
    assert losses["rising"] == pytest.approx(float(costs @ torch.tensor([1.0, 0.75, 0.5, 0.25])))
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0])
    pyro.set_rng_seed(0)
    weighed = Infuse("even").loss(Phases(pair.model, pair.guide, (x,), {"weight": weight}))
    pyro.set_rng_seed(0)
    torch.testing.assert_close(weighed, pair.costs(x)[0].sum() / 4)


def test_before_it_is_trained_each_step_is_the_start():
    x = (torch.rand(50, 3) * 4).round() / 4
    pair = Infusion(TimeMLP(8, 1), timesteps=3, rate=0.1)
    pair.build(x)
    first = pair.transition(torch.randn(7, 3), torch.tensor(2))
    torch.testing.assert_close(first.mean, (2 * x - 1).mean(0).expand(7, 3))
    torch.testing.assert_close(first.stddev, pair.start().stddev.expand(7, 3))
    shares = [float(pair.share(torch.tensor(t))) for t in (3, 2, 1)]
    assert shares == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("levels", [0, 2, 5, 256])
def test_the_deviations_and_on_levels_the_means_are_limited(levels):
    x = torch.randn(50, 3)
    if levels:
        x = (torch.rand(50, 3) * (levels - 1)).round() / (levels - 1)
        x[:2] = torch.tensor([[0.0], [1.0 / (levels - 1)]])
    pair = Infusion(TimeMLP(8, 1), timesteps=3)
    pair.build(x)
    assert getattr(pair.likelihood, "levels", 0) == levels
    drawn = {}
    for said in (-100.0, 100.0):
        with torch.no_grad():
            pair.net.last.bias[:] = said
        drawn[said] = [pair.transition(torch.randn(7, 3), torch.tensor(t)) for t in (1, 2)]
    last, step = (p.stddev for p in drawn[-100.0])
    least = 1 / (levels - 1) if levels else math.exp(-12)
    assert least / math.e < last.min() <= last.max() < 1.03 * least / math.e
    assert 0.02 / math.e < step.min() <= step.max() < 1.03 * 0.02 / math.e
    last, step = drawn[100.0]
    assert max(last.stddev.max(), step.stddev.max()) < math.exp(1 if levels else 5)
    assert not levels or max(abs(p.mean).max() for p in (last, step)) < 2


def test_what_cannot_be_is_refused():
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match="rate must lie between 0 and 1"):
        Infusion(rate=1.5)
    with pytest.raises(ValueError, match="width must be positive"):
        Infusion(width=0.0)
    with pytest.raises(ValueError, match="unknown weights 'risen', nearest 'rising'"):
        Infuse("risen")
    vae = VAE(latent=2)
    with pytest.raises(ValueError, match="a pair such as Infusion, and VAE is none"):
        Infuse()(vae.model, vae.guide, x)
    pair = of_bits()
    with pytest.raises(ValueError, match="no reparameterised samples"):
        ELBO()(pair.model, pair.guide, states(2))
    partly = Phases(pair.model, pair.guide, (states(2),), {"seen": torch.ones(4, 2)})
    with pytest.raises(ValueError, match="entries may be missing"):
        Infuse().loss(partly)


@pytest.mark.parametrize("objective", [Wake(), ELBO(gradient="score"), IWAE(3, gradient="vimco")])
def test_bits_learn_by_their_bound_as_well(objective):
    pair, x = of_bits(), states(2)
    objective(pair.model, pair.guide, x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pair.parameters())


# --- through the house ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    x = (torch.rand(80, 1, 3, 3) * 4).round() / 4
    data = Data.from_arrays(x.numpy(), valid=0.2, test=0.2)
    return fit(Infusion(TimeMLP(16, 1), timesteps=4), Infuse(), data, steps=30, batch_size=16)


def test_an_evaluation_weighs_whole_ways(run):
    report = evaluate(run, particles=50, metrics=["likelihood"], pictures=False)
    assert report["nll"].kind == "upper bound"
    assert report["nll"].value < -report["elbo"].value
    assert report["ess"].applicable
    assert not report["end_kl"].applicable
    bound = validation_bound(run.pair.model, run.pair.guide, run.data.test, particles=50)
    assert bound == pytest.approx(-report["nll"].value, rel=0.02)
    assert run.history[-1]["bound"] is not None


def test_a_way_is_drawn_and_is_no_code(run):
    way = [*run.pair.way(3)]
    assert [state.shape for state in way] == [(3, 1, 3, 3)] * 5
    assert set(way[-1].mul(4).flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    with pytest.raises(Unavailable, match="the whole way of a chain"):
        encode(run, run.data.test.x)


def test_training_is_traced_and_resumed_to_the_bit(tmp_path):
    torch.set_default_dtype(torch.float32)
    data = Data.named("digits", rows=100)
    options = {"net": "time-mlp:16:1", "timesteps": "2", "epochs": "2", "batch_size": "32"}
    back = check_traced_and_resumed(RECIPES["infusion"], options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["epoch"] == 2
