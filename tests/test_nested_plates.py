"""Costs, comparisons and particles under nested plates, and where the batch is not rightmost."""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from priory.inference import IWAE, Adversarial, Match, Phases, Reconstruction, Sleep

ROWS, TIMES, WIDE = 5, 3, 2
LAYOUTS = [(-1, None), (-2, None), (-1, -2), (-2, -1)]  # of the batch and of an inner plate


def along(values, dim, dims=2):
    """Values along one dimension, counted from the right, of some."""
    return values.reshape([-1 if d == dims + dim else 1 for d in range(dims)])


def inner(dim, size=None):
    if dim is None:
        return contextlib.nullcontext()
    return pyro.plate("time", size or TIMES, subsample=torch.arange(TIMES), dim=dim)


class Laid:
    """Row i's latent is i, under the model 100 + i; an element at time t observes z + t / 10."""

    def __init__(self, batch, time, full=None):
        self.batch, self.time, self.full = batch, time, full
        self.z = along(torch.arange(float(ROWS)).double(), batch)
        shift = along(torch.arange(float(TIMES)).double(), time) / 10 if time else 0.0
        self.shift = torch.as_tensor(shift).unsqueeze(-1) * torch.ones(WIDE).double()

    def mean(self, z):
        return z.unsqueeze(-1) + self.shift

    def model(self, x):
        with pyro.plate("data", ROWS, dim=self.batch):
            z = pyro.sample("z", dist.Delta(self.z + 100.0))
            with inner(self.time, self.full):
                pyro.sample("x", dist.Normal(self.mean(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", ROWS, dim=self.batch):
            pyro.sample("z", dist.Delta(self.z))

    @property
    def x(self):
        sizes = [1, 1, WIDE]
        sizes[self.batch - 1] = ROWS
        if self.time:
            sizes[self.time - 1] = TIMES
        return torch.randn(sizes, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("cost", "power"), [("squared", 2), ("absolute", 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cost_is_summed_over_a_datums_elements(layout, cost, power, weighted, particles):
    pair = Laid(*layout)
    weight = torch.arange(1.0, 1 + ROWS).double() if weighted else torch.ones(ROWS).double()
    each = (pair.x - pair.mean(pair.z)).abs() ** power
    wanted = (each.sum(-1) * along(weight, layout[0])).sum() / ROWS
    columns = {"weight": weight} if weighted else {}
    phases = Phases(pair.model, pair.guide, (pair.x,), columns, particles=particles)
    torch.testing.assert_close(Reconstruction(cost=cost).loss(phases), wanted)


@pytest.mark.parametrize("layout", LAYOUTS[2:])
def test_a_squared_cost_is_half_that_of_a_unit_normal(layout):
    pair = Laid(*layout, full=7 * TIMES)  # both scale what is seen of the inner plate
    one, other = (
        lambda x: poutine.scale(pair.model, 0.3)(x),
        poutine.scale(lambda x: pair.model(x), 0.3),
    )
    for model in (one, other):
        phases = Phases(model, pair.guide, (pair.x,))
        normal = Reconstruction().loss(phases)
        constant = 0.3 * 7 * TIMES * WIDE * 0.5 * torch.log(torch.tensor(2 * torch.pi).double())
        cost = Reconstruction(cost="squared").loss(phases)
        torch.testing.assert_close(normal, 0.5 * cost + constant)


@pytest.mark.parametrize("within", [False, True])
def test_a_cost_leaves_out_what_is_masked(within):
    x = torch.randn(ROWS, WIDE, generator=torch.Generator().manual_seed(0)).double()
    seen = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1]]).bool()
    if not within:
        seen = seen[:, :1].expand(ROWS, WIDE)
    given = x.masked_fill(~seen, torch.nan)
    loc = torch.zeros(WIDE).double().requires_grad_()

    def model(x):
        distribution = dist.Normal(loc.expand(ROWS, WIDE), 1.0)
        distribution = (
            distribution.mask(seen).to_event(1)
            if within
            else distribution.to_event(1).mask(seen[:, 0])
        )
        with pyro.plate("data", ROWS):
            pyro.sample("x", distribution, obs=x)

    phases = Phases(model, lambda x: None, (given,))
    cost = Reconstruction(cost="squared").loss(phases)
    torch.testing.assert_close(cost, (x.square() * seen).sum() / ROWS)
    (slope,) = torch.autograd.grad(cost, loc)
    torch.testing.assert_close(slope, -2 * (x * seen).sum(0) / ROWS)


def test_a_shared_latents_cost_enters_by_its_share():
    def model(x):
        w = pyro.sample("w", dist.Delta(torch.tensor([3.0, 1.0]), event_dim=1))
        with pyro.plate("data", 10, subsample_size=ROWS):
            pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    phases = Phases(model, guide, (torch.zeros(ROWS, 2),))
    loss = Sleep("w", cost="squared").loss(phases)
    assert loss.item() == pytest.approx(10.0 / 10)


def test_a_site_without_a_mean_is_refused():
    def model(y):
        with pyro.plate("data", ROWS):
            pyro.sample("y", dist.Categorical(torch.ones(3)), obs=y)

    phases = Phases(model, lambda y: None, (torch.zeros(ROWS),))
    with pytest.raises(ValueError, match="compares 'y' with its mean, and Categorical"):
        Reconstruction("y", cost="squared").loss(phases)


class Features(nn.Module):
    separate = False

    def __init__(self):
        super().__init__()
        self.seen = []

    def features(self, rows):
        self.seen.append(rows.shape)
        return rows.flatten(1).cumsum(1)

    def forward(self, rows):
        return self.features(rows).sum(1)


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_of_whole_rows(layout, particles):
    pair, critic = Laid(*layout), Features()
    term = Reconstruction(cost="features")
    term.meet([Adversarial(critic, "x", detached=True)])
    loss = term.loss(Phases(pair.model, pair.guide, (pair.x,), particles=particles))
    gap = (pair.x - pair.mean(pair.z)).movedim(2 + layout[0], 0).flatten(1)
    torch.testing.assert_close(loss, gap.cumsum(1).square().sum() / ROWS)
    whole = (TIMES, WIDE) if layout[1] else (WIDE,)
    assert {shape[1:] for shape in critic.seen} == {whole}


def test_features_of_a_part_of_a_plate_are_refused():
    pair, term = Laid(-1, -2, full=6), Reconstruction(cost="features")
    term.meet([Adversarial(Features(), "x")])
    with pytest.raises(ValueError, match="'x' has a scale"):
        term.loss(Phases(pair.model, pair.guide, (pair.x,)))


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("sites", [("x",), ("z",), ("x", "z")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_sides_of_a_comparison_have_a_row_for_each_datum(layout, sites, particles):
    pair = Laid(*layout)
    x = pair.mean(pair.z)
    seen = []

    def divergence(awake, asleep):
        seen.append((awake, asleep))
        return awake.sum() - asleep.sum()

    def phases():
        return Phases(pair.model, pair.guide, (x,), particles=particles)

    Match(divergence, sites, detached=True).loss(phases())
    rows = {"z": pair.z.reshape(ROWS, 1), "x": x.movedim(2 + layout[0], 0).flatten(1)}
    wanted = torch.cat([rows[site] for site in sites], 1)
    awake, asleep = seen[0]
    times = particles if "z" in sites else 1
    torch.testing.assert_close(awake, wanted.repeat(times, 1))
    assert asleep.shape == wanted.shape
    critic = Adversarial(Features(), sites, detached=True)
    one, other = (critic._samples(phases(), asleep=side)[0] for side in (False, True))
    assert one.shape[1:] == other.shape[1:]
    torch.testing.assert_close(one.flatten(1), awake)


def test_data_are_compared_in_the_units_that_the_model_observes():
    def model(x):
        with pyro.plate("data", ROWS):
            loc = torch.zeros(ROWS, WIDE).double().requires_grad_()
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=2.0 * x - 1.0)

    seen = []
    phases = Phases(model, lambda x: None, (torch.full((ROWS, WIDE), 0.75).double(),))
    Match(lambda a, b: seen.append(a) or a.sum(), "x").loss(phases)
    assert seen[0].eq(0.5).all()


@pytest.mark.parametrize("lead", [(), (1,), (1, 1)])
def test_particles_are_drawn_where_a_distribution_has_dimensions_of_one_element(lead):
    def model(x):
        with pyro.plate("data", ROWS):
            z = pyro.sample("z", dist.Normal(torch.zeros(*lead, ROWS).double(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", ROWS):
            pyro.sample("z", dist.Normal(x.expand(*lead, ROWS) / 2, 0.5**0.5))

    x = torch.linspace(-1.0, 1.0, ROWS).double()
    phases = Phases(model, guide, (x,), particles=7)
    assert phases.awake.log_weight().shape == (7, ROWS)
    assert phases.awake.sample["z"].reshape(7, -1).std(0).min() > 0
    evidence = dist.Normal(torch.zeros(()).double(), 2**0.5).log_prob(x).mean()
    torch.testing.assert_close(IWAE(7).loss(phases), -evidence)
