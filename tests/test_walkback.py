"""Variational walkback against operators whose equilibrium is known, enumeration and quadrature."""

import math

import pytest
import torch
from torch import nn

from priory.data import Data
from priory.evaluation import evaluate
from priory.inference import ELBO, IWAE, Phases, Wake, fit
from priory.models import VariationalWalkback
from priory.nets import TimedNet, TimeMLP
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed
from ways import Leaning, exact_bound, matrix, scores, states, stirred, ways

pytestmark = pytest.mark.usefixtures("double")


class Affine(TimedNet):
    """Maps that are affine in the state, whatever the time; a test's own."""

    name = "affine-of-state"

    def __init__(self, matrix, *constants):
        super().__init__()
        self.matrix, self.constants = matrix, constants

    def make(self, shape, params, given):
        self.unused = nn.Parameter(torch.zeros(1))

    def apply_flat(self, z, t, given):
        first = z @ self.matrix.mT + self.constants[0]
        return torch.stack([first, *(c.expand_as(z) for c in self.constants[1:])], 1)


def linear(a, s2=None, steps=3, factor=1.0, **options):
    """A pair whose operator is z' = A z + noise of variance 0.3 tau, and starts at N(0, s2)."""
    a = torch.as_tensor(a)
    net = Affine((a - torch.eye(len(a))) / 0.5, torch.zeros(()), torch.zeros(()))
    pair = VariationalWalkback(net, steps, factor, deviation=0.6**0.5, **options)
    pair.build(torch.tensor([[-1.0], [1.0]]).expand(2, len(a)))
    if s2 is not None:
        with torch.no_grad():
            pair.end.copy_(torch.stack([torch.zeros(len(a)), torch.as_tensor(s2).log() / 2]))
    return pair.eval()


def weights(pair, x, particles=1):
    with torch.no_grad():
        return Phases(pair.model, pair.guide, (x,), particles=particles).awake.log_weight()


# --- operators whose equilibrium is known ---------------------------------------------------------


def test_in_detailed_balance_the_bound_is_exact():
    a = torch.tensor([0.8, -0.3, 0.5])
    s2 = 0.3 / (1 - a**2)  # S = A S A' + Q, and A S is symmetric
    pair, x = linear(a.diag(), s2), torch.randn(7, 3)
    exact = torch.distributions.Normal(0.0, s2.sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(weights(pair, x, 4), exact.expand(4, 7), rtol=0, atol=1e-10)
    off = weights(linear(a.diag(), 1.3 * s2), x.repeat(2000, 1))
    assert off.std() > 0.01
    wide = linear(a.diag(), s2, factor=1.5)  # each step heats, and none is in its equilibrium
    assert weights(wide, x).sub(exact).abs().min() > 1e-3


@pytest.mark.parametrize("turn", [0.15, 0.4])
def test_what_a_turning_operator_loses_is_its_entropy_production(turn):
    """Its equilibrium is round, and A S not symmetric: a step loses 4 r^2 sin^2 / (1 - r^2)."""
    r, steps, n = 0.6, 3, 20_000
    cos, sin = r * math.cos(turn), r * math.sin(turn)
    variance = 0.3 / (1 - r**2)
    pair = linear([[cos, -sin], [sin, cos]], [variance, variance], steps)
    x = variance**0.5 * torch.randn(n, 2)
    entropy = 1 + math.log(2 * math.pi * variance)
    lost = steps * 4 * sin**2 / (1 - r**2)
    found = weights(pair, x)[0]
    assert abs(float(found.mean()) + entropy + lost) < 4 * float(found.std()) / n**0.5
    at = torch.tensor([0.5, -0.2])
    exact = -math.log(2 * math.pi * variance) - float(at.square().sum()) / (2 * variance)
    many = (weights(pair, at.expand(n, 2))[0] - exact).exp()
    assert abs(float(many.mean()) - 1) < 4 * float(many.std()) / n**0.5


@torch.no_grad()
def test_bits_in_detailed_balance():
    odds = torch.tensor([0.7, -0.4])
    pair = VariationalWalkback(
        Affine(torch.zeros(2, 2), odds), 4, factor=1.0, alpha=0.3, likelihood="bernoulli"
    )
    pair.build(states(2))
    kept = math.log(2 / 0.3 - 1)
    up, stay = (odds - kept).sigmoid(), (odds + kept).sigmoid()
    share = up / (up + 1 - stay)
    pair.end.copy_(share.logit())
    x = states(2)
    exact = (x * share + (1 - x) * (1 - share)).log().sum(1)
    torch.testing.assert_close(weights(pair, x, 5), exact.expand(5, 4), rtol=0, atol=1e-12)
    kernel = matrix(pair, 1, 2)
    torch.testing.assert_close(exact.exp() @ kernel, exact.exp(), rtol=0, atol=1e-12)


# --- enumeration and quadrature -------------------------------------------------------------------


def of_bits(steps=3):
    pair = VariationalWalkback(TimeMLP(8, 1), steps, factor=1.5, likelihood="bernoulli")
    return stirred(pair, states(2))


@torch.no_grad()
def test_the_bound_by_all_ways_and_by_matrices():
    pair, every, x = of_bits(), ways(2, 3), torch.tensor([0.0, 1.0])
    exact = pair.start().log_prob(states(2)).exp()
    for t in (3, 2, 1):
        exact = exact @ matrix(pair, t, 2)
    index = int((states(2) == x).all(1).nonzero())
    log_p, log_q = scores(pair, every, x)
    torch.testing.assert_close(log_p.exp().sum(), exact[index], rtol=1e-12, atol=0)
    torch.testing.assert_close(log_q.exp().sum(), torch.tensor(1.0), rtol=1e-12, atol=0)
    log_w, q = log_p - log_q, log_q.exp()
    first = (q * log_w).sum()
    second = (q[:, None] * q * (torch.logaddexp(log_w[:, None], log_w) - math.log(2))).sum()
    assert first + 0.01 < second < exact[index].log() - 0.01
    rows = x.expand(4000, 2)
    for k, bound in enumerate((first, second), 1):
        found = weights(pair, rows, k).logsumexp(0) - math.log(k)
        assert abs(found.mean() - bound) < 4 * found.std() / len(rows) ** 0.5


@torch.no_grad()
def test_one_step_of_bits_in_closed_form():
    """p(x) = sum_z p(z) o(x | z), q(z | x) = o(z | x): one operator o, both ways."""
    pair = of_bits(steps=1)
    o, end = matrix(pair, 1, 2), pair.start().log_prob(states(2)).exp()
    exact = (o * (end * o.T).log()).sum(1) - (o * o.log()).sum(1)
    for row, bound in zip(states(2), exact, strict=True):
        log_p, log_q = scores(pair, ways(2, 1), row)
        torch.testing.assert_close((log_q.exp() * (log_p - log_q)).sum(), bound)


def test_before_it_is_trained_the_way_back_is_the_way_out():
    x = 3 * torch.randn(50, 2) + 1
    pair = VariationalWalkback(TimeMLP(8, 1), timesteps=4, factor=2.0)
    pair.build(x)
    awake = Phases(pair.model, pair.guide, (x,)).awake
    z = awake.guide_sites["z"]["value"]
    units = pair.head.unit.log().sum()
    only = pair.start().log_prob(z[:, -1]).reshape(1, -1) - units
    torch.testing.assert_close(awake.log_weight().detach(), only.detach())
    spread = 1 + 0.5 * (1 + 1 / 2 + 1 / 4 + 1 / 8)
    torch.testing.assert_close(pair.start().variance, torch.full((2,), spread))


def leaning():
    pair = VariationalWalkback(Leaning(), timesteps=2, factor=1.5)
    pair.build(torch.tensor([[-1.0], [1.0]]))
    return pair


@pytest.mark.parametrize("gradient", ["pathwise", "stl"])
def test_the_bounds_gradient_by_quadrature(gradient):
    pair, x = leaning(), torch.tensor([0.7])
    weights = (pair.net.weight, pair.end)
    bound = exact_bound(pair, x)
    exact, bound = torch.autograd.grad(bound, weights), bound.detach()
    found, values = [], []
    for _ in range(40):
        loss = ELBO(gradient=gradient)(pair.model, pair.guide, x.expand(500, 1))
        values.append(-float(loss.detach()))
        found.append(torch.autograd.grad(loss, weights))
    values = torch.tensor(values)
    assert abs(values.mean() - bound) < 4 * values.std() / 40**0.5
    for each, right in zip(map(torch.stack, zip(*found, strict=True)), exact, strict=True):
        assert ((each.mean(0) + right).abs() < 4 * each.std(0) / 40**0.5).all()


def test_a_guide_of_constants_is_scored_by_constants():
    pair, x = leaning(), torch.tensor([[0.7], [-0.4]])
    phases = Phases(pair.model, pair.guide, (x,), particles=3)
    fixed = phases.by_constants(leaves=True)
    (missing,) = torch.autograd.grad(
        fixed.log_q().sum(), pair.net.weight, allow_unused=True, retain_graph=True
    )
    assert missing is None
    torch.testing.assert_close(fixed.log_q(), phases.awake.log_q())
    assert torch.autograd.grad(phases.awake.log_q().sum(), pair.net.weight)[0].abs().min() > 0


# --- draws ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_draws_cool_down_and_go_on_cold():
    pair = linear([[0.7]], [4.0], steps=3, factor=2.0, extra_steps=2)
    variances = [4.0]
    for tau in (4.0, 2.0, 1.0, 1.0, 1.0):  # to z_2, z_1, two cold ones, x
        variances.append(0.49 * variances[-1] + 0.3 * tau)
    n = 20_000

    def check(found, exact):
        assert len(found) == len(exact)
        for x, variance in zip(found, exact, strict=True):
            assert abs(float(x.var()) / variance - 1) < 4 * (2 / n) ** 0.5

    check([*pair.way(n)], variances)
    check([*pair.way(n, 3)], [*variances[:3], 0.49 * variances[2] + 0.3])
    start = 2 * torch.randn(n, 1)
    check([*pair.descend(start)], [*variances[:2], variances[4]])
    with pytest.raises(ValueError, match="the way back has 3 steps at least, got 2"):
        next(iter(pair.way(5, 2)))


def test_what_cannot_be_is_refused():
    for options, said in (
        ({"factor": 0.5}, "factor must be at least 1"),
        ({"alpha": 0.0}, "alpha must lie above 0"),
        ({"deviation": "fixed"}, "deviation must be 'learned' or a positive number"),
        ({"extra_steps": -1}, "extra_steps must not be negative"),
        ({"deviation": 0.1, "likelihood": "bernoulli"}, "bits have no deviation"),
    ):
        with pytest.raises(ValueError, match=said):
            VariationalWalkback(**options)
    pair = of_bits()
    with pytest.raises(ValueError, match="no reparameterised samples"):
        ELBO()(pair.model, pair.guide, states(2))


@pytest.mark.parametrize("objective", [Wake(), ELBO(gradient="score"), IWAE(3, gradient="vimco")])
def test_bits_learn_by_their_bound_as_well(objective):
    pair = of_bits()
    objective(pair.model, pair.guide, states(2)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pair.parameters())


# --- through the house ----------------------------------------------------------------------------


def test_an_evaluation_weighs_whole_ways():
    torch.manual_seed(0)
    x = (torch.rand(80, 1, 3, 3) * 4).round() / 4
    data = Data.from_arrays(x.numpy(), valid=0.2, test=0.2)
    pair = VariationalWalkback(TimeMLP(16, 1), timesteps=4, factor=2.0)
    run = fit(pair, ELBO(), data, steps=30, batch_size=16)
    report = evaluate(run, particles=50, metrics=["likelihood"], pictures=False)
    assert report["nll"].kind == "upper bound"
    assert report["nll"].value < -report["elbo"].value
    assert report["ess"].applicable
    assert report["nll"].value < run.history[0]["loss"]
    assert [state.shape for state in run.pair.way(3, 6)] == [(3, 1, 3, 3)] * 7


def test_training_is_traced_and_resumed_to_the_bit(tmp_path):
    torch.set_default_dtype(torch.float32)
    data = Data.named("digits", rows=100)
    options = {"net": "time-mlp:16:1", "timesteps": "2", "epochs": "2", "batch_size": "32"}
    recipe = RECIPES["variational-walkback"]
    back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["epoch"] == 2
