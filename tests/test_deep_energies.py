"""Deep machines: a belief net below a Boltzmann machine, and a machine of two layers of bits."""

import pytest
import torch

from priory import evaluate
from priory.data import Data
from priory.distributions.harmonium import Harmonium, bits_of
from priory.evaluation import log_likelihood
from priory.evaluation.likelihood.normaliser import both_ways
from priory.inference import ELBO, Contrast, Sleep, Unfold, Wake, fit
from priory.inference.phases.phases import Phases
from priory.models import DBM, DBN, RBM, VAE
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (1, 2, 3)
WIDTH, LOWER, UPPER = 6, 5, 4


def every(n):
    return bits_of(torch.arange(1 << n), n, torch.zeros(()))


def rows(n=20, seed=0):
    u = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return (u < 0.3).double()


def randomised(pair, scale=0.8):
    """Build a pair, and give it random parameters and offsets."""
    pair.build(rows())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        machine = pair.machine if isinstance(pair, DBM) else pair.prior.machine
        machine.average.uniform_(generator=generator)
        machine.shift.normal_(generator=generator)
    return pair.eval()


def log_p(pair, x):
    """Return log p(x) by all values of the lowest bits, and their posterior's logarithm."""
    if isinstance(pair, DBM):
        machine = pair.harmonium()
        z = every(LOWER)
        prior = machine.log_hidden(z) - machine.log_normaliser()
    else:
        z = every(4)
        prior = pair.prior().log_prob(z)
    joint = prior + pair.decoder(z.unsqueeze(1)).log_prob(x).mT
    total = joint.logsumexp(1)
    return total, joint - total.unsqueeze(1)


# --- the deep belief network --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tied():
    """Return a 6-4-6 network whose top is the data's machine with its layers exchanged."""
    torch.set_default_dtype(torch.float64)
    pair = randomised(DBN(latent=4))
    pair.unfold()
    torch.set_default_dtype(torch.float32)
    return pair


def machine_of_data(pair):
    """Return the top as the machine of the data."""
    return pair.prior.harmonium()


def test_the_tied_network_is_its_first_machine(tied):
    x = every(WIDTH).reshape(-1, *SHAPE)
    machine = machine_of_data(tied)
    expected = machine.log_visible(every(WIDTH)) - machine.log_normaliser()
    assert expected.std() > 0.5
    found, posterior = log_p(tied, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    with torch.no_grad():  # and the guide is its posterior
        guide = tied.encoder(x.unsqueeze(1)).log_prob(every(4))
        bound = Phases(tied.model, tied.guide, (x,), particles=3).awake.log_weight()
    torch.testing.assert_close(guide, posterior, rtol=0, atol=1e-10)
    torch.testing.assert_close(bound, expected.expand(3, -1).detach(), rtol=0, atol=1e-10)


def test_the_bound_is_below_and_both_add_up():
    pair = randomised(DBN(latent=4))
    x = every(WIDTH).reshape(-1, *SHAPE)
    exact, posterior = (value.detach() for value in log_p(pair, x))
    assert abs(float(exact.logsumexp(0))) < 1e-10
    with torch.no_grad():
        q = pair.encoder(x.unsqueeze(1)).log_prob(every(4))
        gap = (q.exp() * (q - posterior)).sum(1)
        assert gap.min() > 1e-3
        found = log_likelihood(pair.model, pair.guide, x, 1000).elbo
    error = (q.exp() * (q - posterior - gap[:, None]) ** 2).sum(1).div(1000).sqrt()
    assert ((found - (exact - gap)).abs() < 4.5 * error).all()


def test_a_step_of_the_top_raises_the_bound(tied):
    x = rows(200)
    z = every(4)
    top = tied.prior
    with torch.no_grad():
        q = tied.encoder(x.unsqueeze(1)).log_prob(z).exp().mean(0)  # of all rows
    bound = (q * top().log_prob(z)).sum()
    gradient = torch.autograd.grad(bound, [*top.parameters()])
    former = {n: v.clone() for n, v in tied.state_dict().items()}
    with torch.no_grad():
        for parameter, slope in zip(top.parameters(), gradient, strict=True):
            parameter.add_(0.01 * slope)
        expected = 0.01 * sum(float(slope.square().sum()) for slope in gradient)
        gain = float((q * top().log_prob(z)).sum() - bound)
    tied.load_state_dict(former)
    assert gain == pytest.approx(expected, rel=0.1)
    assert gain > 1e-4


def test_contrast_trains_the_top_as_the_machine_of_data():
    pair, rbm, x = DBN(latent=4, chains=7), RBM(latent=4, chains=7), rows(50)
    for built in (pair, rbm):
        built.build(x)
    own = pair.prior.machine
    own.load_state_dict(
        {n: v.reshape(getattr(own, n).shape) for n, v in rbm.machine.state_dict().items()}
    )
    found = []
    for built in (pair, rbm):
        torch.manual_seed(3)
        loss = Contrast()(built.model, built.guide, x)
        weight = (built.prior if built is pair else built).machine.weight
        found.append((loss.detach(), torch.autograd.grad(loss, weight)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_the_machine_starts_at_the_datas_means():
    pair, x = DBN(latent=4), rows(50)
    pair.build(x)
    machine = pair.prior.machine
    expected = x.mean(0).flatten().clamp(0.001, 0.999)
    torch.testing.assert_close(machine.visible.sigmoid(), expected)
    assert torch.equal(machine.centre, x.mean(0).flatten())
    plain = DBN(latent=4, centred=False)
    plain.build(x)
    assert not plain.prior.machine.centre.any()


def test_unfolding_needs_such_a_network():
    stage = Unfold(name="rbm", objective=ELBO(), steps=1)
    with pytest.raises(ValueError, match="as a DBN has one, got VAE"):
        stage.check(VAE(latent=2))


def test_a_stage_ends_where_the_machine_is_and_the_next_starts_there():
    data = Data.from_arrays(x=rows(60).numpy())
    stage = Unfold(
        name="rbm", objective=Contrast(), frozen=("encoder", "decoder"), steps=20, lr=0.5
    )
    objective = Wake() + Sleep(detached=True)
    options = {"stages": [stage], "batch_size": 20, "optim": torch.optim.SGD, "progress": False}
    run = fit(DBN(4, chains=10, sweeps=2), objective, data, steps=1, lr=1e-12, **options)
    pair, x = run.pair, data.test.x
    machine = machine_of_data(pair)
    expected = machine.log_visible(x.flatten(1)) - machine.log_normaliser()
    found = evaluate(run, metrics=["nll", "elbo"], particles=2, pictures=False)
    assert found["nll"].value == pytest.approx(-float(expected.detach().mean()), abs=1e-6)
    assert found["nll"].kind == "upper bound"


# --- the deep Boltzmann machine -----------------------------------------------------------------


@pytest.fixture(scope="module")
def deep():
    """Return a 6-5-4 machine."""
    torch.set_default_dtype(torch.float64)
    pair = randomised(DBM(layers=(LOWER, UPPER), updates=300))
    torch.set_default_dtype(torch.float32)
    return pair


def energies(pair):
    """Return log p* of all data, lower and upper bits, (2^6, 2^5, 2^4), by hand."""
    machine = pair.harmonium()
    b, d = machine.visible[:WIDTH], machine.visible[WIDTH:]
    w, v = machine.weight[:WIDTH], machine.weight[WIDTH:]
    x, lower, upper = every(WIDTH), every(LOWER), every(UPPER)
    first = (x @ b)[:, None] + x @ w @ lower.mT + lower @ machine.hidden
    second = (upper @ d) + lower @ v.mT @ upper.mT
    return first.unsqueeze(2) + second


def test_its_normaliser_and_likelihood_by_enumeration(deep):
    whole = energies(deep)
    total = whole.flatten().logsumexp(0)
    torch.testing.assert_close(deep.harmonium().log_normaliser(), total, rtol=0, atol=1e-10)
    exact = whole.flatten(1).logsumexp(1) - total
    x = every(WIDTH).reshape(-1, *SHAPE)
    torch.testing.assert_close(log_p(deep, x)[0], exact, rtol=0, atol=1e-10)
    with torch.no_grad():
        found = log_likelihood(deep.model, deep.guide, x, 1000)
    assert (found.log_likelihood - exact.detach()).abs().max() < 0.1
    assert (found.elbo < exact + 0.02).all()


def field_bound(pair, lower, upper):
    """Return E_q log p* + H(q) - log Z of all data, for means (2^6, layer)."""
    weights = [
        torch.where(every(n).bool(), mean.unsqueeze(1), 1 - mean.unsqueeze(1)).prod(-1)
        for n, mean in ((LOWER, lower), (UPPER, upper))
    ]
    whole = energies(pair)
    energy = torch.einsum("xl,xu,xlu->x", *weights, whole)
    entropy = sum(torch.special.entr(w).sum(-1) for w in weights)
    return energy + entropy - whole.flatten().logsumexp(0)


def test_mean_field_rises_to_a_bound(deep):
    x = every(WIDTH).reshape(-1, *SHAPE)
    exact = log_p(deep, x)[0]
    former = torch.full((1 << WIDTH,), -torch.inf)
    with torch.no_grad():
        for updates in (1, 2, 4, 300):
            deep.updates = updates
            means = [odds.sigmoid() for odds in deep.mean_field(x)]
            bound = field_bound(deep, *means)
            assert (bound >= former - 1e-12).all()
            assert (bound < exact).all()
            former = bound
        lower, upper = means
        machine = deep.harmonium()
        again = (machine.visible[WIDTH:] + lower @ machine.weight[WIDTH:].mT).sigmoid()
    torch.testing.assert_close(again, upper, rtol=0, atol=1e-9)


def test_contrast_has_the_gradient_of_the_bound(deep):
    x = every(WIDTH).reshape(-1, *SHAPE)
    seen = deep.visible(x)
    assert torch.equal(seen[:, :WIDTH], every(WIDTH))
    score = deep.harmonium().log_visible(seen).mean()
    found = torch.autograd.grad(score, [*deep.parameters()])
    with torch.no_grad():
        means = [odds.sigmoid() for odds in deep.mean_field(x)]
    bound = field_bound(deep, *means).mean() + deep.harmonium().log_normaliser()
    expected = torch.autograd.grad(bound, [*deep.parameters()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_persistent_chains_come_to_the_gradient_of_the_bound(deep):
    pair = DBM(layers=(LOWER, UPPER), updates=300, chains=6000)
    pair.build(rows())
    own = {n: v for n, v in deep.state_dict().items() if not n.endswith("chains")}
    pair.load_state_dict(own, strict=False)
    x = rows(10)
    loss = Contrast(30, memory=1.0)(pair.model, pair.guide, x)
    found = torch.autograd.grad(loss, [*pair.parameters()])
    machine = pair.harmonium()
    exact = machine.log_normaliser() - machine.log_visible(pair.visible(x)).mean()
    expected = torch.autograd.grad(exact, [*pair.parameters()])
    for mine, other in zip(found, expected, strict=True):
        assert (mine - other).abs().max() < 0.03


@pytest.mark.parametrize("seed", [0, 1])
def test_annealing_over_data_and_upper_bits_finds_the_normaliser(deep, seed):
    torch.manual_seed(seed)
    machine, base = deep.harmonium(), torch.zeros(WIDTH + UPPER)
    total = float(machine.log_normaliser().detach())
    start = torch.zeros(5, LOWER)
    found = both_ways(machine, base, start, steps=300, chains=200, burn_in=50)
    assert abs(found.forward - total) < 3.5 * found.forward_se < 0.3
    assert abs(found.backward - total) < 3.5 * found.backward_se < 0.3


def test_without_upper_weights_it_is_the_restricted_machine(deep):
    pair = randomised(DBM(layers=(LOWER, UPPER)))
    with torch.no_grad():
        pair.machine.weight[WIDTH:] = 0
        machine = pair.harmonium()
        plain = Harmonium(machine.weight[:WIDTH], machine.visible[:WIDTH], machine.hidden)
        expected = plain.log_visible(every(WIDTH)) - plain.log_normaliser()
        x = every(WIDTH).reshape(-1, *SHAPE)
        found = Phases(pair.model, pair.guide, (x,), particles=3).awake.log_weight()
    torch.testing.assert_close(found, expected.expand(3, -1), rtol=0, atol=1e-10)
    torch.testing.assert_close(log_p(pair, x)[0].detach(), expected, rtol=0, atol=1e-10)


def test_its_samples_are_those_of_the_machine(deep):
    torch.manual_seed(0)
    with torch.no_grad():
        whole = energies(deep)
        marginal = whole.flatten(1).logsumexp(1).softmax(0) @ every(WIDTH)
        z = deep.machine.draw(deep.harmonium(), 20_000)
        mean = deep.decoder(z).sample().flatten(1).mean(0)
    assert (mean - marginal).abs().max() < 0.02


@pytest.mark.parametrize("family", [DBN, DBM])
def test_other_data_are_refused(family):
    with pytest.raises(ValueError, match="is of binary data and needs the likelihood bernoulli"):
        family().build(torch.randn(10, 4))


def test_layers_are_two():
    with pytest.raises(ValueError, match=r"two numbers of bits, got \(3,\)"):
        DBM(layers=(3,))
    with pytest.raises(ValueError, match="layers must be a positive integer"):
        DBM(layers=(3, 0))


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own"),
    [("dbn", {"latent": 5, "rbm.epochs": 1}), ("dbm", {"layers": (5, 3), "updates": 2})],
)
def test_traced_and_resumed(name, own, tmp_path):
    options = {**own, "chains": 8, "sweeps": 2, "epochs": 2, "batch_size": 600}
    recipe = RECIPES[name]
    data, folder = recipe.own_data(), tmp_path / "run"
    run = check_traced_and_resumed(recipe, options, data, folder, atol=1e-5)
    machine = run.pair.prior.machine if name == "dbn" else run.pair.machine
    assert machine.chains.shape[:2] == (1, 8)


def test_on_digits_the_networks_bound_starts_at_its_machines_and_rises():
    options = {"latent": 10, "rbm.epochs": 20, "sweeps": 5, "progress": False}
    judged = {"metrics": ["elbo"], "particles": 20, "pictures": False}
    found = [
        evaluate(RECIPES["dbn"].fit(**length, **options), **judged)["elbo"]
        for length in ({"steps": 1, "lr": 1e-9}, {"epochs": 10, "lr": 0.3})
    ]
    assert {record.kind for record in found} == {"lower bound"}
    assert found[1].value > found[0].value + 0.1, found
