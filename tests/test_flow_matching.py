"""Flow matching: fields in closed form, their likelihoods, estimates of them, and couplings."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest
import torch
from pyro.distributions import MultivariateNormal
from torch import nn

from priory import evaluate, score
from priory.data import Data
from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO, Steps
from priory.inference.phases.particles import log_weights
from priory.models import FlowMatching
from priory.models.flow_matching import shortest
from priory.nets import TimedNet
from priory.nets.continuous_flow import _PACE as PACE
from priory.nets.continuous_flow import ContinuousFlow
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed


@pytest.fixture(autouse=True)
def exact(double):
    """In double precision."""


class OfNormal(TimedNet):
    """The mean velocity of lines from N(0, S) to noise, linear in the state."""

    def __init__(self, covariance):
        super().__init__()
        self.covariance = covariance

    def make(self, shape, params, given):
        """Nothing is to be made."""

    def apply_flat(self, z, t, given):
        values, vectors = torch.linalg.eigh(self.covariance)
        t = t.unsqueeze(1) / PACE
        gain = (t - (1 - t) * values) / ((1 - t).square() * values + t.square())
        return ((z.flatten(1) @ vectors) * gain @ vectors.mT).unsqueeze(1)


class Smooth(TimedNet):
    """A small field without waves."""

    def make(self, shape, params, given):
        """Make two layers."""
        size = math.prod(shape)
        self.first, self.last = nn.Linear(size + 1, 6), nn.Linear(6, params * size)

    def apply_flat(self, z, t, given):
        h = self.first(torch.cat([z.flatten(1), t.unsqueeze(1)], 1))
        return self.last(h.tanh())


class Growth(TimedNet):
    """v = a z."""

    def make(self, shape, params, given):
        """Make a."""
        self.a = nn.Parameter(torch.tensor(0.3))

    def apply_flat(self, z, t, given):
        return (self.a * z).unsqueeze(1)


S = torch.tensor([[2.0, 0.6, 0.0], [0.6, 0.5, -0.1], [0.0, -0.1, 1.5]], dtype=torch.float64)


def of_normal(**options):
    """A pair with the exact field of N(0, S), in the data's own units, and data."""
    pair = FlowMatching(OfNormal(S), **options)
    x = MultivariateNormal(torch.zeros(3), S).sample((100,))
    pair.build(x)
    pair.units.centre.zero_()
    pair.units.unit.fill_(1.0)
    return pair, x


def test_the_likelihood_of_normal_data_is_their_own():
    pair, x = of_normal(tolerance=1e-9)
    known = MultivariateNormal(torch.zeros(3), S)
    torch.testing.assert_close(pair.density().log_prob(x), known.log_prob(x), rtol=0, atol=1e-6)
    coarse, _ = of_normal(tolerance=1e-3)
    error = (coarse.density().log_prob(x) - known.log_prob(x)).abs().max()
    assert 1e-5 < error < 0.1  # the tolerance is what decides


def test_noise_is_carried_along_the_known_map():
    pair, _ = of_normal(tolerance=1e-9)
    values, vectors = torch.linalg.eigh(S)
    root = vectors * values.sqrt() @ vectors.mT
    noise = torch.randn(4, 5, 3)
    torch.testing.assert_close(pair.flow.inverse(noise), noise @ root, rtol=0, atol=1e-6)
    torch.testing.assert_close(pair.flow(noise @ root)[0], noise, rtol=0, atol=1e-6)


def test_densities_integrate_to_one():
    pair, x = FlowMatching(Smooth()), 3 + 2 * torch.randn(50, 2)
    pair.build(x)
    ticks = torch.linspace(-12, 18, 90)
    with torch.no_grad():
        density = pair.density().log_prob(torch.cartesian_prod(ticks, ticks)).exp()
    area = float(density.sum() * (ticks[1] - ticks[0]) ** 2)
    assert area == pytest.approx(1, abs=1e-4)
    assert not torch.allclose(pair.flow(x[:2])[1], torch.zeros(2), atol=1e-2)


def test_the_slope_is_the_determinant_of_the_map():
    flow, x = ContinuousFlow(Smooth(), 1e-9), torch.randn(3)
    flow.build(x[None])
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0], x)
    torch.testing.assert_close(flow(x)[1], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-6)


def test_the_gradient_of_log_p_is_the_known_one():
    # z_1 = e^a x, log p = -e^2a |x|^2 / 2 + d a
    pair, x = FlowMatching(Growth(), tolerance=1e-9), torch.randn(20, 3)
    pair.build(x)
    pair.units.centre.zero_()
    pair.units.unit.fill_(1.0)
    ELBO()(pair.model, pair.guide, x).backward()
    known = math.exp(0.6) * x.square().sum(1).mean() - 3
    torch.testing.assert_close(pair.net.a.grad, known, rtol=1e-6, atol=0)


def test_the_least_squared_error_of_normal_data():
    # per coordinate: the integral of s^2 / ((1 - t)^2 s^2 + t^2) over t, which is s pi / 2
    pair, _ = of_normal()
    x = MultivariateNormal(torch.zeros(3), S).sample((20_000,))
    t = torch.randint(1, 1001, (1, len(x)))
    cost = pair.term(t, x)[0]
    known = torch.linalg.eigvalsh(S).sqrt().sum() * math.pi / 2
    assert abs(cost.mean() - known) < 4 * cost.std() / len(x) ** 0.5
    assert Steps("simple")(pair.model, pair.guide, x[:50]).shape == ()
    with pytest.raises(ValueError, match=r"no weighting 'bound' of its steps: take Steps\('simple"):
        Steps()(pair.model, pair.guide, x[:50])


def test_hutchinson_is_unbiased_and_no_exponential_of_it_is():
    pair, x = of_normal(trace="hutchinson", tolerance=1e-6)
    known = MultivariateNormal(torch.zeros(3), S).log_prob(x[0])
    found = pair.density().log_prob(x[:1].expand(4000, -1))
    error = (found - known).std() / len(found) ** 0.5
    assert 1e-4 < error < 0.1
    assert abs(found.mean() - known) < 4 * error
    assert ((found - known).exp().mean() - 1) > 10 * error
    assert pair.is_estimated
    assert not of_normal()[0].is_estimated
    with pytest.raises(ValueError, match="no mean of the estimates' exponentials"):
        pair.flow(x[:4].reshape(2, 2, 3))
    with pytest.raises(ValueError, match="take one particle, or trace='exact'"):
        log_weights(pair.model, pair.guide, {"x": x}, 2)


def test_an_evaluation_says_what_its_likelihood_is():
    known = MultivariateNormal(torch.zeros(3), S)
    figures = {}
    for trace in ("exact", "hutchinson"):
        pair, x = of_normal(trace=trace)
        metrics = ["nll", "elbo", "ess"]
        found = evaluate(pair, x, metrics=metrics, pictures=False, particles=50)
        assert "by a solver, to a tolerance of 1e-05 a step" in found["nll"].note
        assert found["ess"].kind == "not applicable"
        assert found["nll"].value == pytest.approx(-found["elbo"].value)
        figures[trace] = found["nll"]
        scores = score(pair, x[:5], particles=50)
        assert scores.particles is None
        if trace == "exact":
            assert scores.kind == "exact"
            assert found["nll"].value == pytest.approx(float(-known.log_prob(x).mean()), abs=1e-3)
        else:
            assert scores.kind == "unbiased"
            assert scores.se.isnan().all()
            mean = float(-known.log_prob(x).mean())
            assert abs(found["nll"].value - mean) < 4 * found["nll"].se
    assert figures["exact"].kind == "exact"
    assert figures["hutchinson"].kind == "unbiased"
    assert "Hutchinson" in figures["hutchinson"].note
    assert figures["hutchinson"].se > figures["exact"].se


def test_masses_of_levels_are_bounded_from_below():
    # by one draw of each row's noise where the trace is estimated, and by K where it is exact
    levels = torch.arange(4.0).unsqueeze(1) / 3
    for trace in ("exact", "hutchinson"):
        pair = FlowMatching(Smooth(), trace=trace)
        pair.build(levels)
        assert pair.dequantise == "uniform"
        found = log_likelihood(pair.model, pair.guide, levels, 200).log_likelihood
        if trace == "exact":
            assert float(found.exp().sum()) == pytest.approx(1, abs=0.1)
        else:
            judged = evaluate(pair, levels, metrics=["nll"], pictures=False)["nll"]
            assert judged.kind == "upper bound"
            assert judged.particles == 1
    assert set(pair.density().sample((3,)).shape) == {3, 1}


def test_the_shortest_coupling_is_the_best_of_all():
    a, b = torch.randn(5, 2), torch.randn(5, 2)
    costs = {p: float((a - b[[*p]]).square().sum()) for p in itertools.permutations(range(5))}
    assert tuple(shortest(a, b).tolist()) == min(costs, key=costs.__getitem__)
    pair = FlowMatching(Smooth(), coupling="ot")
    start, noise = torch.randn(2, 30, 1), torch.randn(2, 30, 1)
    found = pair.coupled(start, noise)
    assert torch.equal(found.sort(1)[0], noise.sort(1)[0])
    assert torch.equal(found.argsort(1), start.argsort(1))  # in one dimension the orders agree


def test_what_has_no_solution_is_refused():
    pair, x = FlowMatching(Growth()), torch.randn(20, 3)
    pair.build(x)
    with torch.no_grad():
        pair.net.a.fill_(math.nan)
    with pytest.raises(RuntimeError, match="the field is NaN or infinite at time 0"):
        pair.density().log_prob(x)
    for wrong, words in (
        ({"coupling": "opt"}, "unknown coupling 'opt', nearest 'ot'"),
        ({"trace": "exat"}, "unknown trace 'exat', nearest 'exact'"),
        ({"dequantise": "variational"}, "unknown dequantisation"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            FlowMatching(**wrong)


def test_the_solver_has_an_end(monkeypatch):
    monkeypatch.setattr("priory.nets.continuous_flow._MOST", 20)
    pair, x = of_normal(tolerance=1e-9)
    with pytest.raises(RuntimeError, match="not ended after 20 evaluations of the field"):
        pair.density().log_prob(x)


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_steps_are_traced_and_resumed_to_the_bit(coupling, tmp_path):
    torch.set_default_dtype(torch.float32)
    data = Data.named("grid", rows=200)
    options = {"net": "time-mlp:8:1", "coupling": coupling, "batch_size": 50, "valid_every": 0}
    recipe, options = RECIPES["flow-matching"], {**options, "steps": 6}
    whole = contextlib.nullcontext()
    dealt = pytest.warns(UserWarning, match="runs eager: the programs read a tensor's values")
    with dealt if coupling == "ot" else whole:
        back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["step"] == 6
    assert back.pair.coupling == coupling
