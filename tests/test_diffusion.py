"""Diffusion: closed forms, the golden excess of two fixed variances, bounds that agree, draws."""

import itertools
import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from priory.data import Data
from priory.distributions.chain import placed_steps
from priory.distributions.pixels import IndependentBernoulli, IndependentDiscretizedNormal
from priory.evaluation import Unavailable, encode, evaluate
from priory.inference import ELBO, IWAE, SVI, Phases, Steps, fit
from priory.inference.validation import validation_bound
from priory.likelihoods import DiscretizedNormal, Normal
from priory.likelihoods.discretized_normal import levels_of
from priory.models import VAE, BinomialDiffusion, ConditionalDiffusion, Diffusion
from priory.models.corruption import NOISES, BitFlips, GaussianNoise
from priory.nets import TimedNet, TimeMLP
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

SMALL = {"timesteps": 6, "noise": "cosine"}


def stirred(pair, x, **columns):
    """A pair that is built, with the layers that start at zero drawn too, in evaluation mode."""
    pair.build(x, **columns)
    with torch.no_grad():
        for parameter in pair.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return pair.eval()


def points(n=5):
    return 3 * torch.randn(n, 2) + 1


def bits(n=5):
    return torch.rand(n, 4).round()


def kinds():
    y = torch.arange(5) % 3
    return {
        "gaussian": (Diffusion(TimeMLP(8, 1), variance="beta-tilde", **SMALL), points(), {}),
        "learned": (Diffusion(TimeMLP(8, 1), variance="learned", **SMALL), points(), {}),
        "labels": (ConditionalDiffusion(net=TimeMLP(8, 1), **SMALL), points(), {"y": y}),
        "levels": (Diffusion(TimeMLP(8, 1), target="v", **SMALL), (bits() * 4).round() / 4, {}),
        "bits": (BinomialDiffusion(TimeMLP(8, 1), timesteps=6), bits(), {}),
    }


# --- corruptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
def test_gaussian_marginals_are_those_of_the_steps(noise):
    kernel = GaussianNoise(7, noise, 1)
    x = torch.tensor([[0.7, -2.0]])
    mean, variance = x, torch.zeros(1, 2)
    for t in range(1, 8):
        step = kernel.step(mean, torch.tensor(t), x)
        shrink = kernel.step(torch.ones(1, 2), torch.tensor(t), x).mean
        mean, variance = step.mean, variance * shrink**2 + step.variance
        found = kernel.marginal(x, torch.tensor(t))
        torch.testing.assert_close(found.mean, mean)
        torch.testing.assert_close(found.variance, variance)


@pytest.mark.parametrize("noise", NOISES)
def test_gaussian_posterior_by_bayes(noise):
    """q(z_{t-1} | z_t, x) q(z_t | x) = q(z_t | z_{t-1}) q(z_{t-1} | x)."""
    kernel = GaussianNoise(7, noise, 1)
    x, z, before = torch.randn(3, 9, 2)
    for t in map(torch.tensor, range(2, 8)):
        left = kernel.posterior(z, t, x).log_prob(before) + kernel.marginal(x, t).log_prob(z)
        right = kernel.step(before, t, x).log_prob(z) + kernel.marginal(x, t - 1).log_prob(before)
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(kernel.posterior(z, torch.tensor(1), x).mean, x)


@pytest.mark.parametrize("noise", NOISES)
def test_flips_by_bayes_and_by_matrices(noise):
    kernel = BitFlips(5, noise, 1)
    states = torch.tensor([[0.0], [1.0]])
    whole = torch.eye(2)
    for t in range(1, 6):
        at = torch.tensor(t)
        ones = kernel.step(states, at, states).mean
        before, whole = whole, whole @ torch.cat([1 - ones, ones], 1)
        torch.testing.assert_close(kernel.marginal(states, at).mean[:, 0], whole[:, 1])
        for x in range(2):  # p(before = 1 | now, x), by enumeration
            joint = before[x].unsqueeze(1) * torch.cat([1 - ones, ones], 1)
            exact = joint[1] / joint.sum(0)
            found = kernel.posterior(states, at, states[x].expand(2, 1)).mean[:, 0]
            torch.testing.assert_close(found, exact)
            logits = torch.tensor([[0.3], [-1.2]])
            both = torch.stack(
                [kernel.posterior(states, at, torch.full((2, 1), b)).mean for b in (0.0, 1.0)]
            )
            mixed = (logits.sigmoid() * both[1] + (-logits).sigmoid() * both[0]).log()
            ours = nn.functional.logsigmoid(kernel.mixed(states, at, logits))
            torch.testing.assert_close(ours, mixed)


def test_harmonic_steps_forget_the_same_share_each():
    torch.testing.assert_close(GaussianNoise(5, "harmonic", 0).left, torch.linspace(1, 0, 6))
    assert BitFlips(5, "harmonic", 0).left[-1] == 0


def test_the_divergence_of_bits_is_that_of_their_probabilities():
    p, q = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.4, 0.3, 0.5])
    found = kl_divergence(*(IndependentBernoulli(v.logit(), 1) for v in (p, q)))
    exact = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(found, exact.sum())


# --- golden: the optimal linear predictor of N(0, s^2) data ---------------------------------------


class Linear(TimedNet):
    """The optimal predictor of N(0, s^2) data, whose net's times are steps over T."""

    def __init__(self, target, s2, share=0.0):
        super().__init__()
        self.target, self.s2, self.share = target, s2, share

    def make(self, shape, params, given):
        self.params = params

    def fill(self, kernel):
        left = kernel.left
        total = left * self.s2 + 1 - left
        noise = (1 - left).sqrt() / total
        datum = left.sqrt() * self.s2 / total
        slope = {"noise": noise, "x0": datum, "v": left.sqrt() * noise - (1 - left).sqrt() * datum}
        self.slope = slope[self.target]
        true = torch.cat([left[:1] * self.s2, (left * self.s2 + 1 - left)[:-1]]) * kernel.beta
        true = (true / total).log()
        spread = kernel.log_beta - kernel.log_tilde
        self.map = 2 * torch.where(spread > 0, (true - kernel.log_tilde) / spread, 0.5) - 1
        self.steps = kernel.steps

    def apply_flat(self, z, t, given):
        step = (t * self.steps).round().long()
        said = (self.slope[step].unsqueeze(-1) * z.flatten(1)).unsqueeze(1)
        more = self.map[step].reshape(-1, 1, 1).expand_as(said)
        return torch.cat([said, more], 1)[:, : self.params]


def excess(s2, steps, noise, variance, target="x0"):
    """What the bound lacks of minus the entropy, by quadrature that is exact for squares."""
    net = Linear(target, s2)
    pair = Diffusion(net, steps, noise, target, variance, Normal("pixel"))
    pair.build(torch.tensor([[-1.0], [1.0]]))
    net.fill(pair.corruption)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())
    x = s2**0.5 * nodes.reshape(3, 1, 1, 1)
    kernel, t = pair.corruption, torch.arange(1, steps + 1)
    of_z = kernel.marginal(x, t)
    z = of_z.mean + of_z.stddev * nodes.reshape(1, 3, 1, 1)
    cost = pair.cost_of_step(z, t, x).sum(-1) + pair.end(x.reshape(3, 1)).reshape(3, 1)
    nats = (cost * weights.unsqueeze(-1) * weights).sum()
    return float(nats) - 0.5 * math.log(2 * math.pi * math.e * s2)


GOLDEN = {  # of s^2: T = 10, 100, 1000, by the two fixed variances, and the cosine
    (1.0, "linear", "beta"): (0.0, 0.0, 0.0),
    (1.0, "linear", "beta-tilde"): (10.177, 1.369, 0.579),
    (1.0, "cosine", "beta"): (0.0, 0.0, 0.0),
    (0.25, "linear", "beta"): (0.12197, 0.01096, 0.00109),
    (0.25, "linear", "beta-tilde"): (5.390, 1.272, 0.570),
    (0.25, "cosine", "beta"): (0.05688, 0.00608, 0.00061),
    (0.01, "linear", "beta"): (1.075, 0.182, 0.0196),
    (0.01, "linear", "beta-tilde"): (0.223, 0.617, 0.501),
    (0.01, "cosine", "beta"): (0.708, 0.096, 0.0100),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_two_fixed_variances_are_not_equal_for_likelihood(case):
    for steps, golden in zip((10, 100, 1000), GOLDEN[case], strict=True):
        digits = len(f"{golden}".partition(".")[2]) if golden else 9
        assert excess(case[0], steps, *case[1:]) == pytest.approx(golden, abs=0.51 * 10**-digits)


def test_with_the_true_variance_the_bound_is_the_entropy():
    for s2 in (0.25, 1.0, 4.0):
        assert excess(s2, 20, "cosine", "learned") == pytest.approx(0, abs=1e-9)


def test_all_targets_say_the_same():
    for variance in ("beta", "beta-tilde"):
        found = {t: excess(0.25, 100, "cosine", variance, t) for t in ("x0", "v", "noise")}
        assert found["v"] == pytest.approx(found["x0"], abs=1e-9)
        assert found["noise"] == pytest.approx(found["x0"], abs=1e-6)


def test_the_gap_closes_as_steps_grow():
    gaps = [excess(0.25, steps, "linear", "beta") for steps in (50, 100, 200, 400)]
    for large, small in itertools.pairwise(gaps):
        assert small == pytest.approx(large / 2, rel=0.05)


# --- a mixture of two normals ---------------------------------------------------------------------

S2, MODES = 0.04, (-0.5, 0.5)


class MixtureMean(TimedNet):
    """E[x | z_t] of equal parts N(-1/2, s^2) and N(1/2, s^2), in closed form."""

    def make(self, shape, params, given):
        self.params = params

    def apply_flat(self, z, t, given):
        step = (t * len(self.left[1:])).round().long()
        return mixture_mean(z, self.left[step].reshape(-1, 1, 1, 1))


def mixture_mean(z, left):
    total = left * S2 + 1 - left
    low, high = (m + left.sqrt() * S2 / total * (z - left.sqrt() * m) for m in MODES)
    right = (left.sqrt() * z / total).sigmoid()
    return (1 - right) * low + right * high


def test_the_mean_of_a_mixture_given_a_state_by_quadrature():
    grid = torch.linspace(-2, 2, 4001)
    prior = torch.stack([-((grid - m) ** 2) / (2 * S2) for m in MODES]).logsumexp(0)
    z = torch.tensor([-1.4, 0.1, 0.8])
    for left in torch.tensor([0.95, 0.5, 0.1]):
        weights = prior - (z.unsqueeze(-1) - left.sqrt() * grid) ** 2 / (2 * (1 - left))
        exact = (weights.softmax(-1) * grid).sum(-1)
        torch.testing.assert_close(mixture_mean(z, left), exact, rtol=1e-6, atol=1e-6)


def test_the_bound_of_a_mixture_comes_to_its_entropy():
    side = torch.tensor(MODES).repeat_interleave(200)
    x = (side + S2**0.5 * torch.randn(400)).reshape(-1, 1, 1, 1)
    parts = torch.distributions.Normal(torch.tensor(MODES), S2**0.5).log_prob(x.reshape(-1, 1))
    exact = float(-parts.logsumexp(1).mean()) + math.log(2)
    gaps = []
    for steps in (25, 200):
        net = MixtureMean()
        pair = Diffusion(net, steps, "cosine", "x0")
        pair.build(x)
        net.left = pair.corruption.left
        gaps.append(float(pair.terms(x, draws=10).total.mean()) - exact)
    assert gaps[0] > 0.02
    assert gaps[1] == pytest.approx(0, abs=0.02 * exact)


# --- the pair: one site of T states ---------------------------------------------------------------


@pytest.mark.parametrize("kind", kinds())
def test_the_bound_of_a_way_is_the_sum_by_hand(kind):
    pair, x, columns = kinds()[kind]
    stirred(pair, x, **columns)
    awake = Phases(pair.model, pair.guide, columns={"x": x, **columns}, particles=3).awake
    z = awake.sample["z"]
    assert z.shape == (3, 5, pair.timesteps, *x.shape[1:])
    given, start = pair.given(**columns), pair.likelihood.scaled(x)
    steps = [torch.tensor(t) for t in range(1, pair.timesteps + 1)]
    before = [start.expand_as(z[:, :, 0]), *z.unbind(2)]
    log_q = sum(pair.corruption.step(before[t - 1], t, start).log_prob(before[t]) for t in steps)
    log_p = pair.start().log_prob(before[-1]) - pair.cost_of_labels(**columns)
    log_p = log_p + pair.observe(pair.transition(before[1], steps[0], *given)).log_prob(x)
    log_p = log_p + sum(pair.transition(before[t], t, *given).log_prob(before[t - 1]) for t in
                        steps[1:])  # fmt: skip
    torch.testing.assert_close(awake.log_weight(), log_p - log_q)


@pytest.mark.parametrize("kind", kinds())
def test_the_sum_of_the_steps_is_the_bound_of_whole_ways(kind):
    pair, x, columns = kinds()[kind]
    stirred(pair, x, **columns)
    rows = {"x": x, **columns}
    with torch.no_grad():
        whole = -Phases(pair.model, pair.guide, columns=rows, particles=4000).awake.log_weight()
        parts = torch.stack([pair.terms(**rows, draws=40).total for _ in range(30)])
    error = (whole.var(0) / len(whole) + parts.var(0) / len(parts)).sqrt()
    assert ((whole.mean(0) - parts.mean(0)).abs() < 4 * error).all()


@pytest.mark.parametrize("kind", kinds())
def test_a_sketch_is_the_sum_of_the_steps(kind):
    """Unbiased by few of its steps; exactly the sum where K reaches T."""
    pair, x, columns = kinds()[kind]
    stirred(pair, x, **columns)
    rows = {"x": x, **columns}
    assert pair.timesteps > 3
    few = torch.stack([pair.sketch(**rows, particles=3) for _ in range(3000)])
    parts = torch.stack([pair.terms(**rows, draws=40).total for _ in range(30)])
    error = (few.var(0) / len(few) + parts.var(0) / len(parts)).sqrt()
    assert ((few.mean(0) - parts.mean(0)).abs() < 4 * error).all()
    torch.manual_seed(0)
    all_of_it = pair.sketch(**rows, particles=pair.timesteps)
    torch.manual_seed(0)
    assert all_of_it.equal(pair.terms(**rows).total)


def test_steps_of_a_batch_are_all_steps_equally_often():
    for rows, steps, draws in ((4, 8, 1), (3, 7, 2), (5, 2, 1)):
        fine = rows * draws * steps
        found = [placed_steps(torch.tensor((k + 0.5) / fine), rows, steps, draws)
                 for k in range(fine)]  # fmt: skip
        counts = torch.stack(found).flatten()
        assert (counts.bincount(minlength=steps + 1)[1:] == len(counts) // steps).all()
        for each in torch.stack(found).flatten(1).T:
            assert (each.bincount(minlength=steps + 1)[1:] == fine // steps).all()
    one = placed_steps(torch.tensor(0.3), 8, 8, 1).flatten()
    assert one.sort().values.tolist() == [*range(1, 9)]


def test_the_loss_of_steps_is_the_mean_over_all_steps(monkeypatch):
    """Of a batch as large as T, whose rows are one datum: every step once, and so the bound."""
    pair = stirred(Diffusion(TimeMLP(8, 1), **SMALL), points())
    x = torch.ones(6, 2)

    def quiet(start, t):
        found = GaussianNoise.marginal(pair.corruption, start, t)
        return dist.Normal(found.mean, 1e-9).to_event(1)

    monkeypatch.setattr(pair.corruption, "marginal", quiet)
    monkeypatch.setattr(pair, "end", lambda x: torch.full(x.shape[:-1], 0.25))
    loss = Steps()(pair.model, pair.guide, x)
    torch.testing.assert_close(loss.detach(), pair.terms(x[:1]).total[0], rtol=1e-6, atol=1e-6)
    both = [Steps(draws=k)(pair.model, pair.guide, x[:1], weight=torch.full((1,), 2.0)).detach()
            for k in (6, 12)]  # fmt: skip
    torch.testing.assert_close(both[0], 2 * loss.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(both[1], 2 * loss.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", kinds())
def test_steps_and_whole_ways_have_the_same_gradient(kind):
    pair, x, columns = kinds()[kind]
    stirred(pair, x, **columns)
    last = pair.net.last.bias
    grads = {}
    for loss, n in ((ELBO(particles=100), 12), (Steps(draws=120), 12)):
        found = [
            torch.autograd.grad(loss(pair.model, pair.guide, x=x, **columns), last)[0]
            for _ in range(n)
        ]
        grads[loss.name] = torch.stack(found)
    error = sum(g.var(0) / len(g) for g in grads.values()).sqrt()
    assert ((grads["elbo"].mean(0) - grads["steps"].mean(0)).abs() < 5 * error + 1e-9).all()


def test_more_particles_tighten_the_bound_of_bits_towards_enumeration():
    """All ways of 2 bits and 3 steps: log p(x) by enumeration, which sums to one over x."""
    pair = stirred(BinomialDiffusion(TimeMLP(8, 1), timesteps=3), bits()[:, :2])
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 2)
    ways = torch.cartesian_prod(*[torch.arange(4)] * 3)
    z = every[ways]
    with torch.no_grad():
        states = [pair.start().log_prob(z[:, 2])]
        for t in (3, 2):
            states.append(pair.transition(z[:, t - 1], torch.tensor(t)).log_prob(z[:, t - 2]))
        of_way = torch.stack(states).sum(0)
        assert float(of_way.logsumexp(0)) == pytest.approx(0, abs=1e-12)
        first = pair.observe(pair.transition(z[:, 0], torch.tensor(1)))
        log_p = torch.stack([(of_way + first.log_prob(x)).logsumexp(0) for x in every])
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
        joint = []
        for x in every:  # the exact negative bound of each datum, over all its ways
            log_q = sum(
                pair.corruption.step(z[:, t - 2] if t > 1 else x, torch.tensor(t), x).log_prob(
                    z[:, t - 1]
                )
                for t in (1, 2, 3)
            )
            weight = of_way + first.log_prob(x) - log_q
            joint.append(float((log_q.exp() * weight)[log_q > -math.inf].sum()))
        elbo = torch.tensor(joint)
        assert (elbo < log_p).all()
        parts = torch.stack([pair.terms(every, draws=50).total for _ in range(20)])
        assert ((parts.mean(0) + elbo).abs() < 4 * parts.std(0) / 20**0.5).all()
        bounds = [float(-IWAE(k)(*programs(pair), every.repeat(50, 1))) for k in (1, 10, 100)]
    assert bounds[0] < bounds[1] < bounds[2] < float(log_p.mean()) + 0.01
    assert bounds[2] == pytest.approx(float(log_p.mean()), abs=0.02)


def test_blocks_of_steps_change_nothing(monkeypatch):
    pair, x = stirred(Diffusion(TimeMLP(8, 1), timesteps=9, noise="cosine"), points()), points()
    values = []
    for rows in (4096, 11, 1):
        monkeypatch.setattr("priory.distributions.chain._ROWS", rows)
        pyro.set_rng_seed(3)
        loss = ELBO(particles=2)(pair.model, pair.guide, x)
        values.append(torch.cat([loss.reshape(1), *[
            g.flatten() for g in torch.autograd.grad(loss, [*pair.parameters()])]]))  # fmt: skip
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


# --- discretised normal ---------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.01), (-3.0, 0.02), (1.2, 5.0), (0.5, 1e-9)])
def test_the_masses_of_all_levels_sum_to_one(levels, loc, scale):
    pixel = IndependentDiscretizedNormal(
        torch.full((1,), loc), torch.tensor([math.log(scale)]), levels, 1
    )
    every = torch.arange(levels).unsqueeze(1) / (levels - 1)
    masses = pixel.log_prob(every)
    assert masses.isfinite().all()
    assert float(masses.logsumexp(0)) == pytest.approx(0, abs=1e-12)
    mean = float((masses.exp() * every[:, 0]).sum())
    assert float(pixel.mean) == pytest.approx(mean, abs=1e-9)


def test_a_mass_far_from_the_centre_keeps_its_precision_and_its_gradient():
    loc = torch.zeros(1, requires_grad=True)
    pixel = IndependentDiscretizedNormal(loc, torch.tensor([math.log(0.01)]), 256, 1)
    mass = pixel.log_prob(torch.full((1,), 200 / 255))
    near = (199.5 / 255) / 0.01
    tail = float(torch.special.log_ndtr(torch.tensor(-near)))
    assert float(mass.detach()) == pytest.approx(tail, abs=1e-9)
    (slope,) = torch.autograd.grad(mass, loc)
    assert float(slope) == pytest.approx(near / 0.01, rel=1e-3)


def test_levels_are_found_and_asked_for():
    assert levels_of(torch.tensor([[0.0, 1.0]])) == 2
    assert levels_of((torch.rand(50, 9) * 16).round() / 16) == 17
    assert levels_of(torch.rand(50, 9)) is None
    head = DiscretizedNormal(17)
    with pytest.raises(ValueError, match="values at 17 evenly spaced levels"):
        head.check(torch.tensor([[0.03]]))
    with pytest.raises(ValueError, match="divide the data by their largest"):
        head.check(torch.tensor([[2.0]]))


# --- draws ----------------------------------------------------------------------------------------


def gaussian_pair(**options):
    """The optimal chain of N(0, 1/4) data; its last step, p(x | z_1), is drawn apart."""
    net = Linear("x0", 0.25)
    pair = Diffusion(net, 50, "cosine", "x0", "learned", Normal("pixel"), **options)
    pair.build(torch.tensor([[-1.0], [1.0]]))
    net.fill(pair.corruption)
    return pair.eval()


@pytest.mark.parametrize(
    ("sampler", "steps"), [("ancestral", None), ("ancestral", 10), ("ddim", None), ("ddim", 10)]
)
def test_samplers_draw_the_data(sampler, steps):
    pair = gaussian_pair(sampler=sampler, sample_steps=steps)
    calls, inner = [], pair.net.apply_flat
    pair.net.apply_flat = lambda *a: calls.append(1) or inner(*a)
    x = Phases(pair.model, pair.guide, (torch.zeros(900, 1),)).generated.sample["x"]
    assert len(calls) == (steps or 50)
    if sampler == "ancestral" and steps is None:  # the model's own: exact
        assert float(x.std()) == pytest.approx(0.5, rel=0.1)
    else:
        assert float(x.std()) == pytest.approx(0.5, rel=0.25)


def test_ddim_is_a_function_of_its_start_and_stands_still_between_its_steps():
    pair = gaussian_pair(sampler="ddim", sample_steps=5)
    end = torch.randn(7, 1)
    first, second = ([*pair.descend(end)] for _ in range(2))
    assert len(first) == 50
    assert all(map(torch.equal, first, second))
    changes = [t for t, (a, b) in enumerate(itertools.pairwise(first), 1)
               if not torch.equal(a, b)]  # fmt: skip
    assert len(changes) == 4
    # The ordinary differential equation of N(0, s^2): the state's deviation follows the marginal's.
    fine = gaussian_pair(sampler="ddim")
    last = [*fine.descend(end)][-1]
    left = fine.corruption.left
    ratio = ((left[1] * 0.25 + 1 - left[1]) / (left[-1] * 0.25 + 1 - left[-1])).sqrt()
    torch.testing.assert_close(last, ratio * end, rtol=0.1, atol=0)


def test_guidance_moves_estimates_away_from_those_without_a_label():
    x, y = points(6), torch.arange(6) % 3
    pair = stirred(ConditionalDiffusion(net=TimeMLP(8, 1), **SMALL), x, y=y)
    z, t = torch.randn(6, 2), torch.tensor(3)
    given = pair.given(y=y)
    cond, alone = (pair._maps(z, t, *g) for g in (given, [torch.zeros_like(given[0])]))
    with pair.sampling(guidance=2.0):
        torch.testing.assert_close(pair._guided(z, t, *given), 3 * cond - 2 * alone)
    assert pair.guidance == 0.0
    pair.train()
    pyro.set_rng_seed(0)
    kept = [float((pair.given(y=y.repeat(500))[0] != 0).any(-1).double().mean()) for _ in range(2)]
    assert kept == pytest.approx([0.9, 0.9], abs=0.02)


# --- through the house ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    x = (torch.rand(80, 1, 3, 3) * 4).round() / 4
    data = Data.from_arrays(x.numpy(), valid=0.2, test=0.2)
    pair = Diffusion(TimeMLP(16, 1), timesteps=8, noise="cosine")
    return fit(pair, Steps("simple"), data, steps=30, batch_size=16, ema=0.9)


def test_an_evaluation_sums_all_steps(run):
    report = evaluate(run, particles=80, metrics=["likelihood"], pictures=False)
    x = run.data.test.x
    exact = run.pair.terms(x, draws=200)
    assert report["nll"].kind == "upper bound"
    assert "all 8 steps, 10 draws of each" in report["nll"].note
    assert report["nll"].value == pytest.approx(float(exact.total.mean()), rel=0.02)
    bits_, nats = report["bits_per_dim"], report["nll"].value
    assert bits_.kind == "upper bound"
    assert bits_.value == pytest.approx(nats / 9 / math.log(2))
    assert report["elbo"].value == pytest.approx(-nats)
    assert report["end_kl"].value == pytest.approx(float(exact.end.mean()) / 9)
    assert not report["khat"].applicable
    assert "without importance weights" in report["khat"].note
    ours = validation_bound(run.pair.model, run.pair.guide, run.data.test)
    assert ours == pytest.approx(-nats, rel=0.05)
    score = run.score(x, particles=80)
    assert float(score.log_likelihood.mean()) == pytest.approx(-nats, rel=0.02)
    assert score.kind == "lower bound"


def test_a_way_is_no_code(run):
    report = evaluate(run, metrics=["latents", "posterior", "paths"], pictures=False)
    for name in ("active_units", "mutual_information"):
        assert "the whole way of a chain" in report[name].note
    with pytest.raises(Unavailable, match="the whole way of a chain"):
        encode(run, run.data.test.x)


def test_options_of_draws_reach_the_sampler(run):
    same = [run.sample(3, sampler="ddim", sample_steps=4)["z"] for _ in range(2)]
    assert torch.equal(*same)
    assert same[0].shape == (3, 8, 1, 3, 3)
    assert (run.pair.sampler, run.pair.sample_steps) == ("ancestral", None)
    assert not torch.equal(run.sample(3)["z"], same[0])
    with pytest.raises(ValueError, match="sample_steps must lie between 2 and the 8 timesteps"):
        run.sample(3, sample_steps=9)
    with pytest.raises(ValueError, match="unknown option of the sampler 'guidance'"):
        run.sample(3, guidance=1.0)
    assert (run.pair.sampler, run.pair.sample_steps) == ("ancestral", None)


def test_what_cannot_be_is_refused():
    x = points()
    with pytest.raises(ValueError, match="take target='v' or 'x0'"):
        Diffusion(noise="harmonic")
    with pytest.raises(ValueError, match="timesteps must be positive"):
        Diffusion(timesteps=0)
    with pytest.raises(ValueError, match="unknown variance 'betta'"):
        Diffusion(variance="betta")
    with pytest.raises(ValueError, match="unknown noise schedule 'linar', nearest 'linear'"):
        Diffusion(noise="linar")
    with pytest.raises(TypeError, match="a chain's net reads a state and its time"):
        Diffusion(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="take likelihood='normal:pixel'"):
        Diffusion(likelihood="normal", **SMALL).build(x)
    with pytest.raises(ValueError, match="neither: take likelihood="):
        Diffusion(likelihood="logistic", **SMALL).build(bits())
    with pytest.raises(ValueError, match="expected values 0 and 1"):
        BinomialDiffusion().build(x)
    with pytest.raises(ValueError, match=r"Steps\(\) takes single steps of a chain"):
        Steps()(*programs(VAE(latent=2)), x)
    learned = stirred(Diffusion(TimeMLP(8, 1), variance="learned", **SMALL), x)
    with pytest.raises(ValueError, match="says nothing of a learned variance"):
        Steps("simple")(learned.model, learned.guide, x)
    flips = stirred(BinomialDiffusion(TimeMLP(8, 1)), bits())
    with pytest.raises(
        ValueError, match=r"no weighting 'simple' of its steps: take Steps\('bound'"
    ):
        Steps("simple")(flips.model, flips.guide, bits())


def programs(pair):
    return pair.model, pair.guide


def test_a_last_state_that_knows_the_data_is_refused(monkeypatch):
    monkeypatch.setitem(NOISES, "short", lambda steps: torch.full((steps,), 0.01))
    with pytest.raises(ValueError, match=r"the last state knows .* nats per dimension"):
        Diffusion(noise="short", timesteps=20).build(points())
    with pytest.raises(ValueError, match=r"the last state knows .* nats per dimension"):
        BinomialDiffusion(noise="short", timesteps=20).build(bits())


def test_the_hybrid_teaches_the_variance_by_the_bound_alone():
    x = points()
    pair = stirred(Diffusion(TimeMLP(8, 1), variance="learned", **SMALL), x)
    pair.train()
    grads = {}
    for weighting in ("hybrid", "bound"):
        pyro.set_rng_seed(1)
        loss = Steps(weighting)(pair.model, pair.guide, x)
        grads[weighting] = torch.autograd.grad(loss, pair.net.last.bias)[0]
    torch.testing.assert_close(grads["hybrid"][2:], 1e-3 * grads["bound"][2:])
    assert not torch.allclose(grads["hybrid"][:2], 1e-3 * grads["bound"][:2])


@pytest.mark.parametrize("name", ["ddpm", "ddpm-guided", "diffusion-2015", "binomial-diffusion"])
def test_steps_are_traced_and_resumed_to_the_bit(name, tmp_path):
    torch.set_default_dtype(torch.float32)
    recipe, data = RECIPES[name], Data.named("digits", rows=200)
    options = {"net": "time-mlp:16:1", "timesteps": "20", "epochs": "2", "batch_size": "64"}
    back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["epoch"] == 2


def test_traced_steps_and_short_ways_are_the_eager_ones():
    x = (torch.rand(24, 6) * 4).round() / 4
    found = []
    for compile in ("off", "trace"):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = Diffusion(TimeMLP(8, 1), timesteps=3, noise="cosine", variance="learned")
        pair.build(x)
        objective = Steps("hybrid", draws=2) + 0.1 * Steps() + 0.1 * ELBO()
        optim = partial(torch.optim.SGD, lr=1e-3)
        svi = SVI(pair.model, pair.guide, optim, objective, compile=compile)
        found.append(torch.stack([svi.step(x=x) for _ in range(4)]))
        assert svi.engine == {"off": "eager", "trace": "traced"}[compile]
    torch.testing.assert_close(*found)
