"""General Boltzmann machines by enumeration, and Hopfield's network at temperature 0."""

from dataclasses import replace

import pytest
import torch

from priory import evaluate
from priory.data import Data
from priory.distributions.harmonium import bits_of
from priory.distributions.network import Network, hebb
from priory.evaluation import log_likelihood
from priory.evaluation.likelihood import normaliser
from priory.evaluation.likelihood.normaliser import Both, annealed, temperatures
from priory.inference import Contrast, fit
from priory.inference.phases.phases import Phases
from priory.models import BoltzmannMachine
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

VISIBLE, HIDDEN = 4, 2
UNITS = VISIBLE + HIDDEN


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def every(n):
    return bits_of(torch.arange(1 << n), n, torch.zeros(()))


def network_of(units=UNITS, hidden=HIDDEN):
    weight = random(units, units).tril(-1)
    return Network(weight + weight.mT, random(units, seed=1), hidden)


def pair_of(hidden=HIDDEN, **options):
    """Return a pair of random parameters and offsets, and its data."""
    u = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    pair, x = BoltzmannMachine(hidden, **options), (u < 0.3).double()
    pair.build(x)
    with torch.no_grad():
        for seed, parameter in enumerate(pair.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed, scale=0.8))
    return pair, x


def numbers(s):
    return (s * 2.0 ** torch.arange(s.shape[-1])).sum(-1).long()


# --- enumeration --------------------------------------------------------------------------------


def test_hidden_units_are_summed_out_by_hand():
    network = network_of()
    log_p = torch.stack(
        [
            sum(
                (network.weight[i, j] * s[i] * s[j] for i in range(UNITS) for j in range(i)),
                start=network.bias @ s,
            )
            for s in every(UNITS)
        ]
    )
    torch.testing.assert_close(network.log_density(every(UNITS)), log_p, rtol=0, atol=1e-12)
    torch.testing.assert_close(network.log_normaliser(), log_p.logsumexp(0), rtol=0, atol=1e-12)
    by_data = log_p.reshape(1 << HIDDEN, 1 << VISIBLE).logsumexp(0)
    torch.testing.assert_close(network.log_visible(every(VISIBLE)), by_data, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="up to 20 bits, and the network has 21"):
        network_of(21, 1).log_normaliser()


def kernel(network, beta, base):
    """Return p(s' | s) of a sweep, each unit drawn in turn, (2^units, 2^units)."""
    s = every(UNITS)
    moves = torch.eye(len(s))
    for i in range(UNITS):
        odds = beta * network.field(s)[:, i] + (1 - beta) * base[i]
        one = torch.zeros(len(s), len(s))
        for value, chance in ((1.0, odds.sigmoid()), (0.0, (-odds).sigmoid())):
            there = s.clone()
            there[:, i] = value
            one[torch.arange(len(s)), numbers(there)] = chance
        moves = moves @ one
    return moves


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_a_sweep_leaves_its_distribution_as_it_is(beta):
    network, base = network_of(), random(UNITS, seed=5)
    law = (beta * network.log_density(every(UNITS)) + (1 - beta) * every(UNITS) @ base).softmax(0)
    moves = kernel(network, beta, base)
    torch.testing.assert_close(law @ moves, law, rtol=0, atol=1e-12)
    torch.manual_seed(0)
    found = numbers(network.turn(every(UNITS)[5].expand(40_000, -1), beta, base))
    shares = torch.bincount(found, minlength=1 << UNITS) / len(found)
    error = (moves[5] * (1 - moves[5]) / len(found)).sqrt()
    assert ((shares - moves[5]).abs() < 4.5 * error + 1e-12).all()


def test_annealing_is_unbiased_both_ways_with_five_temperatures():
    network, base = network_of(), random(UNITS, seed=5)
    law = network.log_density(every(UNITS)).softmax(0)
    torch.manual_seed(0)
    samples = every(UNITS)[torch.multinomial(law, 50_000, replacement=True)]
    total = float(network.log_normaliser())
    for x, sign in ((None, 1.0), (samples, -1.0)):
        log_z = annealed(network, base, temperatures(5), x, 50_000)
        ratio = (sign * (log_z - total)).exp()
        error = float(ratio.std()) / len(ratio) ** 0.5
        assert 1e-4 < error < 0.05
        assert abs(float(ratio.mean()) - 1) < 3 * error


def test_without_weights_annealing_is_exact_both_ways():
    network = Network(torch.zeros(UNITS, UNITS), random(UNITS))
    for x in (None, every(UNITS)):
        found = annealed(network, network.bias, temperatures(7), x, 9)
        expected = network.log_normaliser().expand(len(found))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


# --- the pair -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, HIDDEN])
def test_its_likelihood_is_exact(hidden):
    pair, _ = pair_of(hidden)
    rows = every(VISIBLE).reshape(-1, 1, 2, 2)
    network = pair.network()
    assert torch.equal(network.weight, network.weight.mT)
    assert not network.weight.diagonal().any()
    expected = network.log_visible(every(VISIBLE)) - network.log_normaliser()
    found = log_likelihood(pair.model, pair.guide, rows, 1).log_likelihood
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)
    assert abs(float(found.logsumexp(0))) < 1e-12
    with torch.no_grad():
        torch.manual_seed(0)
        samples = pair.machine.draw(network, 20_000)[:, :VISIBLE].mean(0)
    assert (samples - found.exp() @ every(VISIBLE)).abs().max() < 0.02


def test_the_offset_changes_no_distribution():
    pair, x = pair_of()
    network, centre = pair.network(), pair.machine.centre
    away = every(UNITS) - centre
    energy = 0.5 * (away @ network.weight * away).sum(1) + every(UNITS) @ pair.machine.visible
    torch.testing.assert_close(
        energy.softmax(0), network.log_density(every(UNITS)).softmax(0), rtol=0, atol=1e-12
    )
    assert torch.equal(centre[:VISIBLE], x.mean(0).flatten())


def test_at_the_optimum_the_moments_of_data_and_model_agree():
    pair, _ = pair_of(0)
    counts = torch.randint(1, 6, (1 << VISIBLE,), generator=torch.Generator().manual_seed(0))
    s = every(VISIBLE).repeat_interleave(counts, 0)
    optimiser = torch.optim.LBFGS(
        pair.parameters(),
        max_iter=300,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimiser.zero_grad()
        network = pair.network()
        loss = network.log_normaliser() - network.log_visible(s).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        law = pair.network().log_density(every(VISIBLE)).softmax(0)
        model = every(VISIBLE).mT @ (law[:, None] * every(VISIBLE))
    torch.testing.assert_close(model, s.mT @ s / len(s), rtol=0, atol=1e-6)


def test_persistent_chains_come_to_the_exact_gradient():
    pair, x = pair_of(chains=6000)
    network = pair.network()
    exact = network.log_normaliser() - network.log_visible(x.flatten(1)).mean()
    expected = torch.autograd.grad(exact, [*pair.parameters()])
    torch.manual_seed(0)
    before = pair.machine.chains.clone()
    loss = Contrast(30)(pair.model, pair.guide, x)
    assert not torch.equal(pair.machine.chains, before)
    for mine, other in zip(torch.autograd.grad(loss, [*pair.parameters()]), expected, strict=True):
        assert (mine - other).abs().max() < 0.03


def test_evaluation_mode_moves_nothing_and_chains_are_needed():
    pair, x = pair_of()
    pair.eval()
    before = pair.machine.chains.clone()
    Contrast()(pair.model, pair.guide, x)
    assert torch.equal(pair.machine.chains, before)
    with pytest.raises(ValueError, match="has persistent chains alone: take persistent=True"):
        Contrast(persistent=False)(pair.model, pair.guide, x)


def test_what_it_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="there may be 0 to 10, got 11"):
        BoltzmannMachine(hidden=11)
    with pytest.raises(ValueError, match="is of binary data; binarise"):
        BoltzmannMachine().build(torch.rand(5, 3))


def test_an_unknown_normaliser_is_no_number(monkeypatch):
    x = (torch.rand(40, 21, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    data = Data.from_arrays(x=x.numpy())
    options = {"steps": 2, "batch_size": 10, "progress": False}
    run = fit(BoltzmannMachine(0, 5, 2), Contrast(), data, **options)
    assert run.history[-1].get("bound") is None
    with torch.no_grad():
        assert (
            "log Z of the Boltzmann machine is not known"
            in Phases(run.pair.eval().model, run.pair.guide, (x[:3],)).awake.no_bound()
        )
    for both, applicable in ((Both(7.0, 0.1, 8.5, 0.1), False), (Both(7.0, 0.1, 7.2, 0.1), True)):
        monkeypatch.setattr(normaliser, "both_ways", lambda *_, both=both, **__: both)
        normaliser._KNOWN.clear()
        found = evaluate(run, metrics=["nll"], particles=1, pictures=False)["nll"]
        assert found.applicable == applicable
        assert ("more than 1 nat apart" in found.note) != applicable


# --- temperature 0 ------------------------------------------------------------------------------


def test_the_energy_never_rises_and_settles():
    network = network_of(12, 0)
    start = s = every(12)[::7]
    former = network.log_density(s)
    for _ in range(20):
        swept = network.cool(s)
        for i in range(12):  # each unit in turn
            s = torch.cat([swept[:, : i + 1], s[:, i + 1 :]], 1)
            now = network.log_density(s)
            assert (now >= former - 1e-12).all()
            former = now
    assert torch.equal(network.cool(s), s)
    assert torch.equal(network.settle(start), s)
    assert (former > network.log_density(start)).any()


def test_gibbs_at_temperature_zero_is_hopfields_update():
    network = network_of(12, 0)
    s = every(12)[::5]
    assert network.field(s).abs().min() > 1e-9
    cold = replace(network, weight=1e12 * network.weight, bias=1e12 * network.bias)
    for _ in range(3):
        expected = network.cool(s)
        assert torch.equal(cold.turn(s), expected)
        s = expected


def test_orthogonal_patterns_are_stored_and_retrieved():
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    for _ in range(3):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    patterns = (signs[1:4] + 1) / 2  # of 16 units
    network = hebb(patterns)
    assert torch.equal(network.cool(patterns), patterns)
    assert torch.equal(network.field(patterns), 2 * (16 - 3) * (2 * patterns - 1))
    broken = patterns.clone()
    broken[:, 5] = 1 - broken[:, 5]
    assert torch.equal(network.settle(broken), patterns)
    with pytest.raises(ValueError, match="patterns must be rows of bits"):
        hebb(torch.rand(3, 4))


def test_few_random_patterns_are_stored_and_many_are_not():
    found = []
    for share in (0.05, 0.5):
        generator = torch.Generator().manual_seed(0)
        patterns = (torch.rand(int(share * 200), 200, generator=generator) < 0.5).double()
        found.append(float((hebb(patterns).settle(patterns) == patterns).double().mean()))
    assert found[0] > 0.999
    assert found[1] < 0.9


# --- the recipe ---------------------------------------------------------------------------------


def test_traced_and_resumed(tmp_path):
    options = {"hidden": 2, "chains": 8, "sweeps": 2, "epochs": 2, "batch_size": 600}
    recipe = RECIPES["boltzmann"]
    data, folder = recipe.own_data(), tmp_path / "run"
    run = check_traced_and_resumed(recipe, options, data, folder, atol=1e-5)
    assert run.pair.machine.chains.shape == (1, 8, 66)
