"""Machines of categories: enumerated, a sweep's matrix, two categories as bits."""

import pytest
import torch

from priory import evaluate
from priory.data import Data
from priory.distributions.harmonium import bits_of
from priory.evaluation import log_likelihood
from priory.inference import Contrast, fit
from priory.inference.phases.phases import Phases
from priory.models import RBM, SoftmaxRBM
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

LEVELS, HIDDEN = 3, 4
EVERY = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0), torch.arange(3.0)).double()


def bits(n=HIDDEN):
    return bits_of(torch.arange(1 << n), n, torch.zeros(()))


def rows(n=40):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, LEVELS, (n, 3), generator=draw).double()


@pytest.fixture(params=[True, False], ids=["centred", "plain"])
def pair(request):
    made = SoftmaxRBM(latent=HIDDEN, centred=request.param, chains=6000)
    made.build(rows())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if made.centred:
            made.machine.average.uniform_(generator=generator)
            made.machine.shift.normal_(generator=generator)
    return made


def test_all_data_by_hand(pair):
    machine, z = pair.harmonium(), bits()
    place = EVERY.long() + LEVELS * torch.arange(3)  # of each field
    energy = machine.visible[place].sum(1)[:, None] + machine.weight[place].sum(1) @ z.mT
    energy = (energy + z @ machine.hidden).detach()
    total = energy.flatten().logsumexp(0)
    with torch.no_grad():
        torch.testing.assert_close(machine.log_normaliser(), total, rtol=0, atol=1e-12)
        found = log_likelihood(pair.model, pair.guide, EVERY, 1).log_likelihood
        weights = Phases(pair.model, pair.guide, (EVERY,), particles=5).awake.log_weight()
    expected = energy.logsumexp(1) - total
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(weights, expected.expand(5, -1), rtol=0, atol=1e-11)
    assert expected.std() > 0.5


@torch.no_grad()
def test_a_sweep_leaves_its_distribution_as_it_is(pair):
    machine, z = pair.harmonium(), bits()
    codes = pair.visible(EVERY)
    down = machine.given(z.unsqueeze(1)).log_prob(codes).exp()
    up = torch.distributions.Bernoulli(logits=machine.up(codes).unsqueeze(1)).log_prob(z)
    moves, law = down @ up.sum(-1).exp(), machine.log_hidden(z).softmax(0)
    torch.testing.assert_close(moves.sum(1), torch.ones(16), rtol=0, atol=1e-12)
    torch.testing.assert_close(law @ moves, law, rtol=0, atol=1e-12)
    x, _ = machine.sweep(z[5].expand(20_000, -1))
    shares = (x.argmax(-1) @ torch.tensor([9, 3, 1])).bincount(minlength=27) / len(x)
    error = (down[5] * (1 - down[5]) / len(x)).sqrt()
    assert ((shares - down[5]).abs() < 4.5 * error + 1e-12).all()


@torch.no_grad()
def test_two_categories_are_bits():
    x = (rows() > 0).double()
    softmax, rbm = SoftmaxRBM(latent=HIDDEN), RBM(latent=HIDDEN)
    for built in (softmax, rbm):
        built.build(x)
    weight = torch.randn(3, 2, HIDDEN)
    field = torch.randn(3, 2)
    softmax.machine.weight.copy_(weight.flatten(0, 1))
    softmax.machine.visible.copy_(field.flatten())
    machine = softmax.harmonium()
    one, zero = machine.weight.unflatten(0, (3, 2)).unbind(1)[::-1]
    other = rbm.harmonium()
    rbm.machine.offset(None)
    rbm.machine.weight.copy_(one - zero)
    fields = machine.visible.unflatten(0, (3, 2))
    rbm.machine.visible.copy_(fields[:, 1] - fields[:, 0])
    rbm.machine.hidden.copy_(machine.hidden + zero.sum(0))
    other = rbm.harmonium()
    every = bits(3)
    found = machine.log_visible(softmax.visible(every)) - machine.log_normaliser()
    expected = other.log_visible(every) - other.log_normaliser()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_it_starts_at_independent_columns():
    made, x = SoftmaxRBM(latent=HIDDEN), rows()
    made.build(x)
    with torch.no_grad():
        made.machine.weight.zero_()
        found = made.given(torch.zeros(HIDDEN)).log_prob(x).sum()
    counts = torch.stack([(x == k).sum(0) for k in range(LEVELS)])
    share = ((counts + 1) / (len(x) + LEVELS)).log()
    torch.testing.assert_close(found, (counts * share).sum(), rtol=0, atol=1e-9)


def test_persistent_chains_come_to_the_exact_gradient(pair):
    if not pair.centred:
        with torch.no_grad():
            pair.machine.weight.mul_(0.5)
    x = rows()
    machine = pair.harmonium()
    parameters = [*pair.parameters()]
    exact = machine.log_normaliser() - machine.log_visible(pair.visible(x)).mean()
    expected = torch.autograd.grad(exact, parameters, retain_graph=True)
    loss = Contrast(30, memory=1.0)(pair.model, pair.guide, x)
    found = torch.autograd.grad(loss, parameters)
    assert expected[0].abs().max() > 0.1
    for mine, other in zip(found, expected, strict=True):
        assert (mine - other).abs().max() < 0.03


def test_it_learns_columns_that_belong_together():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, LEVELS, (600, 1), generator=draw).double().expand(-1, 3)
    data = Data.from_arrays(x.contiguous().numpy())
    options = {"lr": 0.5, "epochs": 30, "optim": torch.optim.SGD, "schedule": "linear"}
    run = fit(SoftmaxRBM(latent=6), Contrast(), data, batch_size=60, progress=False, **options)
    nll = evaluate(run, metrics=["nll"], particles=1, pictures=False)["nll"]
    assert 1.0 < nll.value < 1.7, nll  # log 3, and 3 log 3 of independent columns
    assert {*run.sample(5)["x"].unique().tolist()} <= {0.0, 1.0, 2.0}


@torch.no_grad()
def test_a_category_that_no_row_had_has_no_probability(pair):
    x = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 0.5], [0.0, 1.0, 2.0]]).double()
    found = pair.given(torch.zeros(HIDDEN)).log_prob(x)
    assert found.isfinite().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.tensor([[0.5, 1.0]]), "integers from 0 up, got values in"),
        (torch.tensor([[-1.0, 1.0]]), r"got values in \[-1, 1\]"),
    ],
)
def test_other_numbers_are_refused(x, words):
    with pytest.raises(ValueError, match=words):
        SoftmaxRBM().build(x)
    with pytest.raises(ValueError, match="integers from 0 to 1, got"):
        SoftmaxRBM(categories=2).build(torch.tensor([[0.0, 2.0]]))


def test_traced_and_resumed(tmp_path):
    options = {"latent": 5, "chains": 8, "sweeps": 2, "epochs": 2, "batch_size": 600}
    recipe = RECIPES["softmax-rbm"]
    run = check_traced_and_resumed(recipe, options, recipe.own_data(), tmp_path / "run", atol=1e-5)
    assert run.pair.machine.chains.shape == (1, 8, 5)
