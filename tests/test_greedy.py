"""Pairs that start from machines: a deep autoencoder unrolled, and a deep Boltzmann machine."""

import pytest
import torch

from priory.data import Data
from priory.distributions.harmonium import LINEAR, MEANS, TWICE, Harmonium, bits_of
from priory.inference import ELBO, Contrast, Greedy, Reconstruction, fit
from priory.models import DBM, RBM, VAE, DeepAutoencoder
from priory.priors.boltzmann import machines_in
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (1, 2, 3)
WIDTH = 6


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def every(n):
    return bits_of(torch.arange(1 << n), n, torch.zeros(()))


def rows(n=20, grey=False):
    u = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))
    return u if grey else (u < 0.3).double()


# --- other units of the upper layer -------------------------------------------------------------


def machine_of(above, hidden=4):
    weight = random(WIDTH, hidden)
    return Harmonium(weight, random(WIDTH, seed=1), random(hidden, seed=2), MEANS, above=above)


def turned(machine):
    """Return a machine with its layers exchanged."""
    return Harmonium(
        machine.weight.mT,
        machine.hidden,
        machine.visible,
        units=machine.above,
        above=machine.units,
    )


def test_two_equal_bits_are_one_unit():
    machine = machine_of(TWICE)
    whole = Harmonium(
        torch.cat([machine.weight] * 2, 1), machine.visible, torch.cat([machine.hidden] * 2)
    )
    x, total = every(WIDTH), whole.log_normaliser()
    torch.testing.assert_close(machine.log_visible(x), whole.log_visible(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(machine.log_normaliser(), total, rtol=0, atol=1e-12)
    counts = torch.cartesian_prod(*[torch.arange(3.0)] * 4)
    torch.testing.assert_close(machine.log_hidden(counts).logsumexp(0), total, rtol=0, atol=1e-12)
    below = turned(machine)
    torch.testing.assert_close(below.log_normaliser(), total, rtol=0, atol=1e-12)
    torch.testing.assert_close(below.log_hidden(x), machine.log_visible(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        below.log_visible(counts), machine.log_hidden(counts), rtol=0, atol=1e-12
    )


def test_real_units_are_summed_out():
    machine = machine_of(LINEAR, hidden=1)
    total = machine.log_normaliser()
    torch.testing.assert_close(turned(machine).log_normaliser(), total, rtol=0, atol=1e-12)
    h = torch.linspace(-30, 30, 20_001).unsqueeze(1)
    density = (machine.log_hidden(h) - total).exp()
    assert float(torch.trapezoid(density, h[:, 0])) == pytest.approx(1, abs=1e-9)
    x = every(WIDTH)
    up = machine.hidden + x @ machine.weight  # the means of h
    expected = x @ machine.visible + 0.5 * up.square().sum(-1)
    torch.testing.assert_close(machine.log_visible(x), expected, rtol=0, atol=1e-12)


def test_a_sweep_of_pairs_leaves_their_distribution_as_it_is():
    machine = machine_of(TWICE)
    x, counts = every(WIDTH), torch.cartesian_prod(*[torch.arange(3.0)] * 4)
    up = machine.above.given(machine.up(x).unsqueeze(1)).log_prob(counts).exp()
    down = machine.given(counts.unsqueeze(1)).log_prob(x).exp()
    moves, law = down @ up, machine.log_hidden(counts).softmax(0)
    torch.testing.assert_close(moves.sum(1), torch.ones(81), rtol=0, atol=1e-12)
    torch.testing.assert_close(law @ moves, law, rtol=0, atol=1e-12)
    _, h = machine.sweep(counts[5].expand(20_000, -1))
    shares = torch.bincount((h * 3.0 ** torch.arange(3, -1, -1)).sum(1).long(), minlength=81)
    error = (moves[5] * (1 - moves[5]) / len(h)).sqrt()
    assert ((shares / len(h) - moves[5]).abs() < 4.5 * error + 1e-12).all()


def test_a_sweep_draws_real_units_around_their_means():
    machine = machine_of(LINEAR, hidden=2)
    x, h = machine.sweep(torch.zeros(20_000, 2))
    off = h - machine.hidden - x @ machine.weight
    assert (off.mean(0).abs() < 4.5 / 20_000**0.5).all()
    assert (off.var(0) - 1).abs().max() < 4.5 * (2 / 20_000) ** 0.5


def test_what_is_not_known_of_other_units_is_refused():
    real = Harmonium(random(3, 2), random(3), random(2), LINEAR, above=LINEAR)
    with pytest.raises(ValueError, match="log Z needs a layer of bits"):
        real.log_normaliser()
    with pytest.raises(ValueError, match="annealing sums out a layer of bits"):
        machine_of(LINEAR).anneal(every(WIDTH), 0.0, 0.5, 0.5, torch.zeros(WIDTH))


# --- the deep autoencoder -----------------------------------------------------------------------


def randomised(grey=False):
    """Return a 6-5-4-2 autoencoder whose machines have random parameters and offsets."""
    pair = DeepAutoencoder(layers=(5, 4), latent=2)
    pair.build(rows(grey=grey))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for n in (1, 2, 3):
            for name, value in getattr(pair, f"rbm{n}").state_dict().items():
                scale = 1.5 if name == "weight" else 0.3
                value.copy_(scale * torch.randn(value.shape, generator=generator))
    return pair


@pytest.mark.parametrize("grey", [False, True])
def test_the_first_reconstruction_is_the_machines_way_up_and_down(grey):
    pair, x = randomised(grey), rows(grey=grey)
    machines = [pair.machine_of(n) for n in (1, 2, 3)]
    for n in (1, 2, 3):
        pair.settle(n, [x])
        if n < 3:  # what it has set of the next machine
            machines[n] = pair.machine_of(n + 1)
    h = x.flatten(1)
    for machine in machines[:2]:
        h = machine.up(h).sigmoid()
    z = h = machines[2].up(h)
    for machine in (machines[2], machines[1]):
        h = machine.down(h).sigmoid()
    expected = machines[0].given(h).mean.reshape(x.shape)
    torch.testing.assert_close(pair.encoder(x).mean, z, rtol=0, atol=1e-12)
    found = pair.decoder(pair.encoder(x).mean).mean
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert found.std(0).max() > 1e-3
    assert not [*machines_in([pair])]  # none of them has a part in the density


def test_a_machine_sees_what_the_layers_below_make_of_the_data():
    pair, x = randomised(), rows()
    assert torch.equal(pair.pretraining(1, x)[2], x.flatten(1))
    pair.settle(1, [x[:8], x[8:]])
    seen = pair.machine_of(1).up(x.flatten(1)).sigmoid()
    torch.testing.assert_close(pair.pretraining(2, x)[2], seen, rtol=0, atol=1e-12)
    torch.testing.assert_close(pair.rbm2.centre, seen.mean(0), rtol=0, atol=1e-12)
    start = seen.mean(0).clamp(0.001, 0.999)
    torch.testing.assert_close(pair.rbm2.visible.sigmoid(), start, rtol=0, atol=1e-12)


def test_its_first_machine_is_that_of_the_data():
    pair, rbm, x = DeepAutoencoder(layers=(4,), latent=2), RBM(latent=4), rows(50)
    for built in (pair, rbm):
        built.build(x)
    own = pair.rbm1
    former = rbm.machine.state_dict()
    own.load_state_dict({n: v.reshape(getattr(own, n).shape) for n, v in former.items()})
    found = []
    for built, objective in ((pair, Contrast(layer=1)), (rbm, Contrast())):
        torch.manual_seed(3)
        loss = objective(built.model, built.guide, x)
        weight = (own if built is pair else rbm.machine).weight
        found.append((loss.detach(), torch.autograd.grad(loss, weight)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_contrast_of_the_code_comes_to_the_exact_gradient():
    pair, x = randomised(), rows(40).repeat(500, 1, 1, 1)
    pair.eval()
    own, machine, seen = pair.pretraining(3, x)
    exact = machine.log_normaliser() - machine.log_visible(seen).mean()
    parameters = [own.weight, own.visible, own.hidden]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    loss = Contrast(20, persistent=False, layer=3)(pair.model, pair.guide, x)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    assert expected.abs().max() > 0.3
    assert (found - expected).abs().max() < 0.06


def test_stages_end_where_the_net_begins():
    data = Data.from_arrays(x=rows(60).numpy())
    recipe = RECIPES["deep-autoencoder"]
    options = {"layers": (5, 4, 3), "latent": 2, "batch_size": 20, "progress": False}
    options |= {f"rbm{n}.epochs": 3 for n in (1, 2, 3, 4)}
    run = recipe.fit(data, steps=1, lr=1e-13, **options)
    names = [row.get("stage") for row in run.history]
    assert [n for n in dict.fromkeys(names) if n] == ["rbm1", "rbm2", "rbm3", "rbm4"]
    up, down = ([*part.net.layers[::2], part.net.last] for part in
                (run.pair.encoder, run.pair.decoder))  # fmt: skip
    for above, below in zip(up, reversed(down), strict=True):
        torch.testing.assert_close(above.weight, below.weight.mT, rtol=0, atol=1e-11)
    assert (run.pair.rbm4.weight.std() > 0.011) | (run.pair.rbm1.weight.std() > 0.011)


@pytest.mark.parametrize("x", [torch.randn(10, 4), 7 * torch.rand(10, 4)])
def test_other_data_are_refused(x):
    with pytest.raises(ValueError, match="machines of data between 0 and 1"):
        DeepAutoencoder().build(x)


def test_layers_that_there_are_not():
    pair = DeepAutoencoder(layers=(5,))
    pair.build(rows())
    with pytest.raises(ValueError, match="has 2 machines, for 1 layers and the code, got layer 3"):
        Contrast(layer=3)(pair.model, pair.guide, rows())
    with pytest.raises(ValueError, match="one layer or more"):
        DeepAutoencoder(layers=())
    with pytest.raises(ValueError, match="compares energies of data, and DeepAutoencoder has none"):
        Contrast()(pair.model, pair.guide, rows())
    rbm = RBM(latent=3)
    with pytest.raises(ValueError, match=r"a pair is pre-trained, .* and RBM has none"):
        Contrast(layer=1)(rbm.model, rbm.guide, rows())


def test_a_greedy_stage_needs_such_a_pair_and_its_objective():
    with pytest.raises(ValueError, match="trains the machine of a layer: give it Contrast"):
        Greedy(name="rbm1", objective=ELBO())
    with pytest.raises(ValueError, match=r"got Contrast\(\)"):
        Greedy(name="rbm1", objective=Contrast())
    stage = Greedy(name="rbm1", objective=Contrast(layer=1))
    with pytest.raises(ValueError, match="as a DeepAutoencoder is, got VAE"):
        stage.check(VAE(latent=2))


def test_without_stages_it_is_an_autoencoder():
    data, frozen = Data.from_arrays(x=rows(60).numpy()), ["rbm1", "rbm2"]
    options = {"batch_size": 20, "steps": 3, "progress": False, "valid_every": 0}
    pair = DeepAutoencoder(layers=(5,), latent=2)
    run = fit(pair, Reconstruction(), data, frozen=frozen, **options)
    assert run.history[-1]["loss"] > 0


# --- the deep Boltzmann machine -----------------------------------------------------------------


def deep(centred=True):
    """Return a 6-5-4 machine whose two first machines have random parameters and offsets."""
    pair = DBM(layers=(5, 4), pretrained=True, centred=centred, chains=7)
    pair.build(rows())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for own in (pair.rbm1, pair.rbm2):
            for name in ("weight", "visible", "hidden", *(("average", "shift") if centred else ())):
                value = getattr(own, name)
                value.copy_(0.8 * torch.randn(value.shape, generator=generator))
    return pair


@pytest.mark.parametrize("centred", [True, False])
def test_the_deep_machine_is_the_geometric_mean_of_its_two_machines(centred):
    pair, z = deep(centred), every(5)
    first, second = pair.machine_of(1), pair.machine_of(2)
    expected = 0.5 * (first.log_hidden(z) + second.log_visible(z))
    pair.settle(2, [rows()])
    machine = pair.harmonium()
    torch.testing.assert_close(machine.log_hidden(z), expected, rtol=0, atol=1e-12)
    weight = torch.cat([first.weight, second.weight.mT])
    torch.testing.assert_close(machine.weight, weight, rtol=0, atol=0)
    assert pair.machine.chains.unique().tolist() == [0, 1]
    lower = pair.mean_field(rows())[0].sigmoid()
    average = lower.mean(0) if centred else torch.zeros(5)
    torch.testing.assert_close(pair.machine.average, average, rtol=0, atol=1e-12)


def test_its_first_machine_sees_the_data_twice():
    pair, x = deep(), rows()
    assert torch.equal(pair.pretraining(1, x)[2], 2 * x.flatten(1))
    machine = pair.machine_of(1)
    seen = (machine.hidden + 2 * x.flatten(1) @ machine.weight).sigmoid()
    torch.testing.assert_close(pair.pretraining(2, x)[2], seen, rtol=0, atol=1e-12)
    pair.settle(1, [x[:3], x[3:]])
    torch.testing.assert_close(pair.rbm2.centre, seen.mean(0), rtol=0, atol=1e-12)
    means = pair.machine_of(1).given(torch.zeros(5)).mean / 2  # of either copy
    torch.testing.assert_close(means, machine.visible.sigmoid(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [1, 2])
def test_contrast_of_doubled_layers_comes_to_the_exact_gradient(layer):
    pair, x = deep(), rows(40).repeat(500, 1, 1, 1)
    pair.eval()
    own, machine, seen = pair.pretraining(layer, x)
    exact = machine.log_normaliser() - machine.log_visible(seen).mean()
    parameters = [own.weight, own.visible, own.hidden]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    loss = Contrast(20, persistent=False, layer=layer)(pair.model, pair.guide, x)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    assert expected.abs().max() > 0.2
    assert (found - expected).abs().max() < 0.04


def test_a_plain_deep_machine_has_no_machines_to_start_from():
    plain = DBM(layers=(5, 4))
    plain.build(rows())
    with pytest.raises(ValueError, match="take pretrained=True"):
        Contrast(layer=1)(plain.model, plain.guide, rows())
    with pytest.raises(ValueError, match="starts from 2 machines, got layer 3"):
        deep().machine_of(3)


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("deep-autoencoder", {"layers": (5, 4, 3), "latent": 2}),
        ("dbm-pretrained", {"layers": (5, 3), "updates": 2, "chains": 8}),
    ],
)
def test_traced_and_resumed(name, own, tmp_path):
    recipe = RECIPES[name]
    options = {**own, "epochs": 2, "batch_size": 600}
    options |= {f"{stage.name}.epochs": 1 for stage in recipe.stages}
    run = check_traced_and_resumed(recipe, options, recipe.own_data(), tmp_path / "run", atol=1e-5)
    assert len([*machines_in([run.pair])]) == (name == "dbm-pretrained")
