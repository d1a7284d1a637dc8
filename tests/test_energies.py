"""Boltzmann machines: enumerated, tempered, annealed; their gradients, chains and evaluations."""

import math
from functools import partial

import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, score
from priory.data import Data
from priory.distributions.harmonium import (
    BITS,
    Harmonium,
    Units,
    bits_of,
    swap_gain,
    swapped,
)
from priory.evaluation import log_likelihood
from priory.evaluation.likelihood import normaliser
from priory.evaluation.likelihood.normaliser import Both, annealed, averaged, temperatures
from priory.evaluation.record import Unavailable
from priory.inference import (
    ELBO,
    EM,
    IWAE,
    SVI,
    Constraint,
    Contrast,
    FreeBits,
    Reconstruction,
    Stage,
    fit,
)
from priory.inference.checks import check_ranks
from priory.inference.distributed import ranks
from priory.inference.objectives.schedules import Linear
from priory.inference.phases.phases import Phases
from priory.likelihoods import LIKELIHOODS, Normal
from priory.models import RBM, VAE
from priory.nets import MLP
from priory.parsing import parse
from priory.priors import Boltzmann
from priory.priors.boltzmann import Machine
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

VISIBLE, HIDDEN = 6, 4


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def machine_of(visible=VISIBLE, hidden=HIDDEN, scale=1.0):
    return Harmonium(
        random(visible, hidden, scale=scale), random(visible, seed=1), random(hidden, seed=2)
    )


def every(n):
    return bits_of(torch.arange(1 << n), n, torch.zeros(()))


def pair_of(likelihood="bernoulli", x=None, **options):
    """Return an RBM with random parameters and offsets, and its data."""
    u = torch.rand(20, 1, 2, 3, generator=torch.Generator().manual_seed(3))
    x = {"bernoulli": (u < 0.3).double(), "continuous-bernoulli": u}.get(likelihood, 3 * u - 1)
    pair = RBM(HIDDEN, parse("likelihood", likelihood, LIKELIHOODS), **options)
    pair.build(x)
    with torch.no_grad():
        for seed, parameter in enumerate(pair.parameters()):
            parameter.add_(random(*parameter.shape, seed=seed, scale=0.7))
        if pair.centred:
            pair.machine.average.uniform_()
            pair.machine.shift.normal_()
    return pair, x


# --- exact: enumeration, no weights, tempered kernels -------------------------------------------


def test_both_layers_have_the_same_normaliser_by_hand():
    machine = machine_of()
    x, h = every(VISIBLE), every(HIDDEN)
    energy = (x @ machine.weight @ h.mT) + (x @ machine.visible)[:, None] + h @ machine.hidden
    total = energy.flatten().logsumexp(0)
    torch.testing.assert_close(machine.log_normaliser(), total, rtol=0, atol=1e-12)
    torch.testing.assert_close(machine.log_visible(x), energy.logsumexp(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(machine.log_hidden(h), energy.logsumexp(0), rtol=0, atol=1e-12)
    turned = Harmonium(machine.weight.mT, machine.hidden, machine.visible)
    torch.testing.assert_close(turned.log_normaliser(), total, rtol=0, atol=1e-12)


def test_softmax_units_are_a_layer_too():
    def given(field):
        return dist.OneHotCategorical(logits=field.unflatten(-1, (2, 3))).to_event(1)

    units = Units(
        given, lambda x: x.flatten(-2), lambda f: f.unflatten(-1, (2, 3)).logsumexp(-1).sum(-1)
    )
    plain = machine_of()
    machine = Harmonium(plain.weight, plain.visible, plain.hidden, units)
    x = torch.stack([torch.stack([a, b]) for a in torch.eye(3) for b in torch.eye(3)])
    torch.testing.assert_close(machine.log_visible(x).logsumexp(0), machine.log_normaliser())
    x, h = x.flatten(1), every(4)
    joint = x @ plain.weight @ h.mT + (x @ plain.visible)[:, None] + h @ plain.hidden
    torch.testing.assert_close(joint.flatten().logsumexp(0), machine.log_normaliser())


def test_more_than_twenty_bits_are_not_listed():
    with pytest.raises(ValueError, match="up to 20 bits, and the smaller layer has 21"):
        machine_of(22, 21).log_normaliser()


def test_without_weights_annealing_is_exact_both_ways():
    visible, hidden = random(VISIBLE), random(HIDDEN, seed=1)
    machine = Harmonium(torch.zeros(VISIBLE, HIDDEN), visible, hidden)
    expected = BITS.cumulant(visible) + BITS.cumulant(hidden)
    betas = temperatures(7)
    for x in (None, every(VISIBLE)):
        found = annealed(machine, visible, betas, x, 9)
        torch.testing.assert_close(found, expected.expand(len(found)), rtol=0, atol=1e-12)
        assert averaged(found)[1] < 1e-12


@pytest.mark.parametrize("units", ["bits", "normal"])
def test_annealing_is_unbiased_both_ways_with_five_temperatures(units):
    if units == "bits":
        machine, base = machine_of(), random(VISIBLE, seed=5)
        exact = machine.log_visible(every(VISIBLE)).softmax(0)
        samples = every(VISIBLE)[torch.multinomial(exact, 100_000, replacement=True)]
    else:
        pair, _ = pair_of("normal")
        machine, base = pair.harmonium(), random(VISIBLE, seed=5, scale=0.3)
        exact = machine.log_hidden(every(HIDDEN)).softmax(0)
        h = every(HIDDEN)[torch.multinomial(exact, 100_000, replacement=True)]
        samples = machine.given(h).sample()
    total = float(machine.log_normaliser().detach())
    for x, sign in ((None, 1.0), (samples, -1.0)):
        log_z = annealed(machine, base, temperatures(5), x, 100_000)
        ratio = (sign * (log_z - total)).exp()
        error = float(ratio.std()) / len(ratio) ** 0.5
        assert 1e-4 < error < 0.05
        assert abs(float(ratio.mean()) - 1) < 3 * error


def test_annealing_closes_on_the_normaliser_from_both_sides():
    machine, base = machine_of(), torch.zeros(VISIBLE)
    total = float(machine.log_normaliser())
    found = normaliser.both_ways(
        machine, base, torch.zeros(5, HIDDEN), steps=300, chains=200, burn_in=50
    )
    assert abs(found.forward - total) < 3 * found.forward_se < 0.3
    assert abs(found.backward - total) < 3 * found.backward_se < 0.3


def kernel(machine, beta):
    """Return p(h' | h) of a sweep, (2^hidden, 2^hidden)."""
    x, h = every(VISIBLE), every(HIDDEN)
    down = machine.given(h.unsqueeze(1)).log_prob(x)
    up = dist.Bernoulli(logits=machine.up(x).unsqueeze(1)).log_prob(h).sum(-1)
    return down.exp() @ up.exp()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_tempered_sweep_leaves_its_distribution_as_it_is(beta):
    machine = machine_of().tempered(beta, random(VISIBLE, seed=5))
    law = machine.log_hidden(every(HIDDEN)).softmax(0)
    moves = kernel(machine, beta)
    torch.testing.assert_close(moves.sum(1), torch.ones(1 << HIDDEN), rtol=0, atol=1e-12)
    torch.testing.assert_close(law @ moves, law, rtol=0, atol=1e-12)
    start = every(HIDDEN)[5]
    x, h = machine.sweep(start.expand(40_000, -1))
    assert x.shape == (40_000, VISIBLE)
    numbers = (h * 2.0 ** torch.arange(HIDDEN)).sum(1).long()
    shares = torch.bincount(numbers, minlength=1 << HIDDEN) / len(h)
    error = (moves[5] * (1 - moves[5]) / len(h)).sqrt()
    assert ((shares - moves[5]).abs() < 4.5 * error + 1e-12).all()


def test_an_exchange_is_in_detailed_balance():
    machine, base = machine_of(3, 2), torch.zeros(3)
    betas = torch.tensor([1.0, 0.4]).reshape(-1, 1, 1)
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    x = every(3)[pairs].movedim(1, 0)  # (temperatures, chains, visible)
    partner = torch.tensor([1, 0])
    own = machine.tempered(betas, base).log_visible(x)
    other = machine.tempered(betas[partner], base).log_visible(x)
    gain = swap_gain(own, other, partner)
    torch.testing.assert_close(gain[0], gain[1])
    log_law = own.sum(0)
    there = pairs[:, 1] * 8 + pairs[:, 0]  # the number of the exchanged pair
    flow = log_law + gain[0].clamp(max=0)
    torch.testing.assert_close(flow, flow[there], rtol=0, atol=1e-12)


def test_exchanges_leave_every_temperature_as_it_is():
    machine = machine_of(3, 2)
    betas = torch.tensor([1.0, 0.6, 0.2]).reshape(-1, 1, 1)
    hot = machine.tempered(betas, torch.zeros(3))
    law = hot.log_visible(every(3).expand(3, -1, -1)).softmax(1)
    n = 20_000
    x = torch.stack([every(3)[torch.multinomial(p, n, replacement=True)] for p in law])
    moved = swapped(hot, x)
    assert 0.2 < float((moved != x).any(-1).double().mean()) < 1
    error = 4.5 * 0.5 / n**0.5
    expected = law @ every(3)
    assert (moved.mean(1) - expected).abs().max() < error


# --- the parameters: centred, started, followed -------------------------------------------------


def test_centred_parameters_are_the_plain_ones_with_shifted_biases():
    pair, x = pair_of()
    machine, found = pair.machine, pair.harmonium()
    h, mean, lam = every(HIDDEN), machine.centre.flatten(), machine.average
    centred_h, centred_x = h - lam, x.flatten(1) - mean
    energy = centred_x @ machine.weight @ centred_h.mT
    energy = energy + (x.flatten(1) @ (machine.visible + machine.shift))[:, None]
    energy = energy + h @ machine.hidden
    whole = energy - (h @ machine.hidden)[0] + (centred_x @ machine.weight @ lam)[:, None]
    difference = found.log_visible(x) - energy.logsumexp(1)
    assert (difference - difference[0]).abs().max() < 1e-12  # up to a constant
    assert whole.isfinite().all()


def test_following_moves_the_offset_and_not_the_distribution():
    pair, x = pair_of()
    before, offset = pair.harmonium().log_visible(x), pair.machine.average.clone()
    total = pair.harmonium().log_normaliser()
    pair.machine.follow(torch.full((HIDDEN,), 0.9), 0.7)
    torch.testing.assert_close(pair.machine.average, 0.7 * offset + 0.3 * 0.9)
    after = pair.harmonium()
    torch.testing.assert_close(after.log_visible(x), before, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.log_normaliser(), total, rtol=0, atol=1e-12)


def test_the_centred_gradient_is_that_of_the_centred_products():
    pair, x = pair_of()
    machine, sign = pair.harmonium(), torch.ones(len(x), 1)
    sign[len(x) // 2 :] = -1  # as many rows of one phase as of the other
    score = (sign[:, 0] * machine.log_visible(x)).sum()
    found = torch.autograd.grad(score, pair.machine.weight, retain_graph=True)[0]
    h = machine.up(x).sigmoid() - pair.machine.average
    expected = (sign * (x.flatten(1) - pair.machine.centre.flatten())).mT @ h
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_it_starts_at_the_datas_means():
    pair, x = RBM(3), (random(50, 2, 3) < 0.4).double()
    pair.build(x)
    with torch.no_grad():
        pair.machine.weight.zero_()
    torch.testing.assert_close(pair.decoder(torch.zeros(3)).mean, x.mean(0).clamp(0.001, 0.999))
    assert torch.equal(pair.machine.centre, x.mean(0))
    plain = RBM(3, centred=False)
    plain.build(x)
    assert not plain.machine.centre.any()
    assert not plain.machine.average.any()


# --- gradients ----------------------------------------------------------------------------------


def gradients(pair, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*pair.parameters()])])


def exact_gradient(pair, x):
    machine = pair.harmonium()
    return gradients(pair, machine.log_normaliser() - machine.log_visible(x).mean())


def coupled(chains=20_000):
    """Return a machine whose data are far from it, many rows, and the exact gradient."""
    pair, x = pair_of(chains=chains)
    with torch.no_grad():
        pair.machine.weight.mul_(2)
    x = x.repeat(1000, 1, 1, 1)
    return pair, x, exact_gradient(pair, x)


def test_contrastive_divergence_comes_to_the_exact_gradient():
    pair, x, exact = coupled()
    pair.eval()
    errors = {}
    for k in (1, 40):
        loss = Contrast(k, persistent=False)(pair.model, pair.guide, x)
        errors[k] = float((gradients(pair, loss) - exact).abs().max())
    assert errors[1] > 0.1
    assert errors[40] < 0.015  # sd of at most 1/2 a row, 20,000 rows


@pytest.mark.parametrize("temperatures", [1, 3])
def test_persistent_chains_come_to_the_exact_gradient(temperatures):
    pair, x = pair_of(chains=6000, temperatures=temperatures)
    exact = exact_gradient(pair, x)
    before = pair.machine.chains.clone()
    objective = Contrast(30, memory=1.0)
    loss = objective(pair.model, pair.guide, x)
    assert (gradients(pair, loss) - exact).abs().max() < 0.03
    assert pair.machine.chains.shape == (temperatures, 6000, HIDDEN)
    assert (pair.machine.chains != before).any(-1).all(0).double().mean() > 0.5
    law = pair.harmonium().log_hidden(every(HIDDEN)).softmax(0)
    assert (pair.machine.chains[0].mean(0) - law @ every(HIDDEN)).abs().max() < 0.03


def test_a_step_by_hand():
    pair, x = pair_of(chains=8)
    machine, chains = pair.harmonium(), pair.machine.chains[0].clone()
    torch.manual_seed(5)
    samples, h = machine.sweep(chains)
    expected = machine.log_visible(samples).mean() - machine.log_visible(x).mean()
    torch.manual_seed(5)
    found = Contrast(memory=0.9)(pair.model, pair.guide, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(pair.machine.chains[0], h)


def test_evaluation_mode_moves_nothing():
    pair, x = pair_of()
    pair.eval()
    before = {n: v.clone() for n, v in pair.state_dict().items()}
    for persistent in (True, False):
        Contrast(persistent=persistent)(pair.model, pair.guide, x)
    assert all(torch.equal(v, before[n]) for n, v in pair.state_dict().items())


# --- the pair -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "continuous-bernoulli", "normal", "normal:0.8"]
)
@pytest.mark.parametrize("centred", [True, False])
def test_the_weights_have_no_variance(likelihood, centred):
    pair, x = pair_of(likelihood, centred=centred)
    found = Phases(pair.model, pair.guide, (x,), particles=5).awake.log_weight()
    machine = pair.harmonium()
    exact = machine.log_visible(x) - machine.log_normaliser()
    torch.testing.assert_close(found, exact.expand(5, -1), rtol=0, atol=1e-11)
    if likelihood == "bernoulli":
        rows = every(VISIBLE).reshape(-1, 1, 2, 3)
        total = log_likelihood(pair.model, pair.guide, rows, 1).log_likelihood.logsumexp(0)
        assert abs(float(total)) < 1e-10


@pytest.mark.parametrize("likelihood", ["continuous-bernoulli", "normal"])
def test_real_data_have_a_density_that_integrates_to_one(likelihood):
    pair = RBM(3, likelihood)
    pair.build(torch.rand(30, 1) if likelihood != "normal" else 5 + 3 * torch.randn(30, 1))
    with torch.no_grad():
        pair.machine.weight.normal_()
    grid = torch.linspace(*((-60, 80) if likelihood == "normal" else (0, 1)), 20_001)
    with torch.no_grad():
        machine = pair.harmonium()
        density = Phases(pair.model, pair.guide, (grid.unsqueeze(1),)).awake.log_weight()[0].exp()
        assert machine.log_normaliser().isfinite()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-6)


def test_samples_are_those_of_the_model():
    pair, _ = pair_of()
    machine = pair.harmonium()
    with torch.no_grad():
        law = machine.log_hidden(every(HIDDEN)).softmax(0)
        few = pair.machine.draw(machine, 20_000).mean(0)
        assert (few - law @ every(HIDDEN)).abs().max() < 0.02
        weight = random(3, 11, scale=1.0)  # of more bits, by the chains
        many = Machine(chains=50, sweeps=30)
        many.build(3, 11, torch.zeros(3))
        many.weight.copy_(weight)
        other = many.harmonium()
        law = other.log_hidden(every(11)).softmax(0)
        assert (many.draw(other, 20_000).mean(0) - law @ every(11)).abs().max() < 0.02


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        ("delta", "bernoulli, continuous-bernoulli or normal, got delta"),
        (Normal("pixel"), "one field for each coordinate of a datum, and the likelihood has 2"),
    ],
)
def test_other_likelihoods_are_refused(likelihood, words):
    with pytest.raises(ValueError, match=words):
        RBM(2, likelihood).build(torch.rand(10, 4))


def test_contrast_needs_an_energy():
    pair, x = pair_of()
    vae = VAE(latent=2)
    with pytest.raises(
        ValueError, match="compares energies of data, and VAE has none: train an RBM"
    ):
        Contrast()(vae.model, vae.guide, x)
    with pytest.raises(ValueError, match="have no weights"):
        Contrast()(pair.model, pair.guide, x=x, weight=torch.ones(len(x)))
    with pytest.raises(ValueError, match="memory must be between 0 and 1, got 2"):
        Contrast(memory=2)


# --- the prior ----------------------------------------------------------------------------------


def prior_of(latent, units, chains=20_000):
    prior = Boltzmann(units, chains)
    prior.build(latent, torch.zeros(2, 3))
    with torch.no_grad():
        prior.machine.weight.copy_(random(units, latent, scale=0.5))
        prior.machine.visible.copy_(random(units, seed=1))
        prior.machine.hidden.copy_(random(latent, seed=2))
    return prior


def test_few_bits_are_exact():
    prior = prior_of(5, 12)
    assert abs(float(prior().log_prob(every(5)).logsumexp(0).detach())) < 1e-12
    z = every(5)[:7]
    found = gradients(prior, prior().log_prob(z).mean())
    machine = prior.harmonium()
    expected = gradients(prior, machine.log_hidden(z).mean() - machine.log_normaliser())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_gradient_of_many_bits_is_that_of_the_chains():
    prior = prior_of(11, 11)
    z = every(11)[::300]
    machine = prior.harmonium()
    expected = gradients(prior, machine.log_hidden(z).mean() - machine.log_normaliser())
    for _ in range(30):
        prior.machine.advance(machine)
    value = prior().log_prob(z)
    torch.testing.assert_close(value, machine.log_hidden(z), rtol=0, atol=1e-10)  # log Z counts 0
    assert (gradients(prior, value.mean()) - expected).abs().max() < 0.02
    before = prior.machine.chains.clone()
    with torch.no_grad():
        assert prior().log_prob(z).isnan().all()
    prior.eval()
    assert prior().log_prob(z).isnan().all()
    assert torch.equal(prior.machine.chains, before)


@pytest.fixture(scope="module")
def binary():
    x = (torch.rand(60, 12, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    return Data.from_arrays(x=x.numpy())


def vae(units=11, latent=12):
    return VAE(Boltzmann(units, chains=10, sweeps=3), MLP((5,)), MLP((5,)), latent=latent)


@pytest.mark.parametrize("objective", [IWAE(2, gradient="vimco"), ELBO(2, gradient="score")])
def test_a_vae_has_it_as_its_prior(binary, objective):
    run = fit(vae(), objective, binary, steps=4, batch_size=20, progress=False)
    assert "bound" not in run.history[-1] or run.history[-1]["bound"] is None
    found = evaluate(run, metrics=["nll", "kl"], particles=3, limit=5, pictures=False)
    assert (found["nll"].kind, found["kl"].applicable) == ("upper bound", True)
    assert all("log Z by enumeration" in found[name].note for name in ("nll", "kl"))


def test_chains_are_those_of_one_process(monkeypatch):
    objective, x = IWAE(2, gradient="vimco"), torch.zeros(4, 12)
    few, many = vae(latent=3), vae(latent=12)
    for pair in (few, many):
        pair.build(x)
        check_ranks(objective, pair.model, pair.guide)
    monkeypatch.setattr(ranks, "world", lambda: 2)
    check_ranks(objective, few.model, few.guide)  # of few bits the gradient is exact
    with pytest.raises(ValueError, match="of more than 10 bits is trained by one set of chains"):
        check_ranks(objective, many.model, many.guide)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Contrast(), r"Contrast\(\) moves one set of chains in one process: start one"),
        (Contrast() + 2.0 * Contrast(k=2), r"Contrast\(\) moves one set of chains"),
        (EM(), r"EM\(\) sweeps over all rows in one process: start one, not several"),
    ],
)
def test_what_one_process_trains_is_refused_in_several(monkeypatch, objective, words):
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(ValueError, match=words):
        check_ranks(objective, torch.nn.Linear(1, 1))
    check_ranks(ELBO(), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("check", [True, False])
def test_several_processes_are_refused_before_the_first_step(monkeypatch, check):
    pair, x = vae(), torch.zeros(4, 12)
    svi = SVI(pair.model, pair.guide, torch.optim.SGD, IWAE(2, gradient="vimco"), check=check)
    pair.build(x)
    before = [p.clone() for p in pair.parameters()]
    monkeypatch.setattr(ranks, "world", lambda: 2)
    for _ in range(2):  # the second attempt too
        with pytest.raises(ValueError, match="is trained by one set of chains"):
            svi.step(x)
    assert all(map(torch.equal, before, pair.parameters()))


def test_fit_refuses_several_processes_before_its_first_stage(binary, monkeypatch):
    first = Stage(name="first", objective=ELBO(gradient="enumerate"), steps=1)
    options = {"stages": [first], "steps": 1, "batch_size": 20, "progress": False}
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(ValueError, match=r"Contrast\(\) moves one set of chains"):
        fit(vae(4, 3), Contrast(), binary, **options)


@pytest.mark.parametrize("latent", [3, 12])
def test_draws_of_the_prior_give_it_no_gradient_and_say_so(latent):
    pair, x = vae(latent=latent), torch.zeros(4, 12)
    pair.build(x)
    with pytest.raises(ValueError, match=r"the model's 'z' .* has no reparameterised samples"):
        Phases(pair.model, pair.guide, (x,)).sampled("z")
    with pytest.raises(ValueError, match=r"the guide's 'z' .* has no reparameterised samples"):
        ELBO()(pair.model, pair.guide, x)


@pytest.mark.parametrize("term", [Constraint(Reconstruction(), 5.0), FreeBits()])
def test_terms_that_go_by_the_value_are_refused(term):
    for latent in (3, 12):  # of few bits log Z is known
        pair, x = vae(latent=latent), torch.zeros(4, 12)
        pair.build(x)
        with torch.no_grad():  # where bits lose no gradient
            if latent == 3:
                assert term(pair.model, pair.guide, x).isfinite()
                continue
            with pytest.raises(ValueError, match="log Z of a Boltzmann machine of more than 10 b"):
                term(pair.model, pair.guide, x)


def test_a_vae_of_few_bits_has_a_bound_throughout(binary):
    objective = ELBO(gradient="enumerate")
    run = fit(vae(4, 3), objective, binary, steps=4, batch_size=20, progress=False)
    assert run.history[-1]["bound"] < 0


# --- what evaluation knows ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(binary):
    """Return a run whose log Z has to be estimated: 22 bits, of real data."""
    pair = RBM(22, "normal", chains=10, sweeps=3)
    return fit(pair, Contrast(), binary, steps=2, batch_size=20, lr=1e-3, progress=False)


def found_as(monkeypatch, both):
    calls = []

    def both_ways(*_, **__):
        calls.append(both)
        return both

    monkeypatch.setattr(normaliser, "both_ways", both_ways)
    normaliser._KNOWN.clear()
    return calls


def test_an_estimated_normaliser_is_in_the_error(large, monkeypatch):
    monkeypatch.setattr(normaliser, "TEMPERATURES", 50)
    monkeypatch.setattr(normaliser, "BURN_IN", 5)
    plain = evaluate(large, metrics=["nll"], particles=2, pictures=False)["nll"]
    assert plain.kind == "biased"
    calls = found_as(monkeypatch, Both(7.0, 0.1, 7.6, 0.3))
    found = evaluate(large, metrics=["nll", "elbo"], particles=2, pictures=False)
    nll = found["nll"]
    own = float(nll.values.std()) / len(nll.values) ** 0.5
    assert nll.se == pytest.approx(math.sqrt(own**2 + (0.1**2 + 0.3**2 + 0.6**2) / 4))
    assert (nll.kind, found["elbo"].kind) == ("biased", "biased")
    assert "log Z = 7.30 ± 0.34 by annealing, 7.00 ± 0.10 forwards and 7.60 ± 0.30" in nll.note
    scores = score(large, particles=2)
    assert float(scores.log_likelihood.mean()) == pytest.approx(-nll.value)
    assert scores.kind == "biased"
    assert scores.se.min() >= math.sqrt((0.1**2 + 0.3**2 + 0.6**2) / 4) - 1e-9
    assert "its normaliser is estimated" in str(scores)
    assert len(calls) == 1  # for these weights


@pytest.mark.parametrize("both", [Both(7.0, 0.1, 8.5, 0.1), Both(7.0, 0.1, math.nan, 0.1)])
def test_directions_that_disagree_are_no_number(large, monkeypatch, both):
    found_as(monkeypatch, both)
    words = "log Z of the Boltzmann machine is not known: annealing finds 7.00"
    report = evaluate(large, metrics=["likelihood"], particles=2, pictures=False)
    for name in ("nll", "elbo", "ess", "bits_per_dim"):
        assert not report[name].applicable
    assert words in report["nll"].note
    assert "more than 1 nat apart" in report["nll"].note
    with pytest.raises(Unavailable, match=words):
        score(large)
    with pytest.raises(Unavailable, match=words):
        log_likelihood(large.pair.model, large.pair.guide, large.data.test.x, 2)
    assert evaluate(large, metrics=["mmd"], n_samples=10, pictures=False)["mmd"].applicable


def test_evaluation_leaves_the_machine_as_it_was(large, monkeypatch):
    found_as(monkeypatch, Both(7.0, 0.1, 7.0, 0.1))
    before = {n: v.clone() for n, v in large.pair.state_dict().items()}
    evaluate(large, metrics=["nll", "mmd"], particles=2, n_samples=10, pictures=False)
    assert all(torch.equal(v, before[n]) for n, v in large.pair.state_dict().items())
    assert large.pair.machine.find is None
    assert large.pair.machine.found is None


def test_other_weights_are_annealed_anew(large, monkeypatch):
    calls = found_as(monkeypatch, Both(7.0, 0.1, 7.0, 0.1))
    options = {"metrics": ["nll"], "particles": 2, "pictures": False}
    evaluate(large, **options)
    with torch.no_grad():
        large.pair.machine.hidden.add_(1)
    evaluate(large, **options)
    with torch.no_grad():
        large.pair.machine.hidden.sub_(1)
    assert len(calls) == 2


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "temperatures"), [("rbm", 1), ("rbm", 3), ("rbm-cd", 1), ("gaussian-rbm", 1)]
)
def test_traced_and_resumed(name, temperatures, tmp_path):
    options = {"latent": 5, "chains": 8, "sweeps": 2, "epochs": 2, "batch_size": 600}
    options["temperatures"] = temperatures
    data = RECIPES[name].own_data()
    run = check_traced_and_resumed(RECIPES[name], options, data, tmp_path / "run", atol=1e-5)
    assert run.pair.machine.chains.shape == (temperatures, 8, 5)
    assert run.encode(data.test.x[:4]).mean["z"].shape == (4, 5)


@pytest.mark.parametrize("name", ["rbm", "rbm-cd", "gaussian-rbm"])
def test_ten_bits_on_digits(name):
    found = []
    for length in ({"steps": 1}, {"epochs": 40}):
        run = RECIPES[name].fit(latent=10, **length, progress=False)
        nll = evaluate(run, metrics=["nll"], particles=1, pictures=False)["nll"]
        assert (nll.kind, run.pair.harmonium().listed) == ("upper bound", 10)
        found.append(nll.value)
    assert found[1] < found[0] - 0.5, found
    assert run.history[-1]["rate"] < 0.01 * run.history[0]["rate"]


def test_a_linear_schedule_falls_to_zero():
    from priory.inference.options import FitOptions

    found = FitOptions(schedule="linear").schedule_over(40)
    assert isinstance(found, Linear)
    assert (found.at(0), found.at(20), found.at(40)) == (1.0, 0.5, 0.0)
    assert partial(FitOptions, schedule="linear")().config["schedule"] == "linear"
