"""What a number is: of which sites, in which units, on which levels, and with which error."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.data import Data
from priory.data.levels import level_spacing
from priory.distributions.categorical import SoftCode, StraightThroughCode
from priory.evaluation import Entry, Record, Report, comparison_table, evaluate, evaluate_samples
from priory.evaluation.draws import Draws
from priory.evaluation.samples.manifold import manifold
from priory.evaluation.samples.manifold_errors import _whole, manifold_errors
from priory.evaluation.samples.memorisation import copying
from priory.inference import ELBO, IWAE, KL, Match, Renyi, fit


def normals(n, d, seed=0, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw, dtype=torch.float64) + shift


class Plain:
    """Standard normal features; with a label, one that is uniform and independent of them."""

    def __init__(self, labelled=False, taken=False, distribution=None):
        self.distribution = distribution or dist.Normal(torch.zeros(2).double(), 1.0).to_event(1)
        if labelled:
            self.model = self._labelled
        elif taken:
            self.model = self._taken

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", self.distribution, obs=x)

    def _taken(self, x, y):
        self.__class__.model(self, x)

    def _labelled(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(logits=torch.zeros(10).double()), obs=y)
            pyro.sample("x", self.distribution, obs=x)

    def guide(self, x):
        pass


X = normals(200, 2)
Y = torch.arange(200) % 10


def judged(pair, columns=None, **options):
    columns = {"x": X, "y": Y} if columns is None else columns
    return evaluate(pair, columns, pictures=False, **options)


def test_a_joint_likelihood_says_so_and_is_not_ranked_beside_a_marginal_one():
    plain, joint = judged(Plain(), metrics=["nll", "elbo"]), judged(Plain(True), metrics=["nll"])
    exact = -Plain().distribution.log_prob(X).mean().item()
    assert plain["nll"].value == pytest.approx(exact)
    assert joint["nll"].value == pytest.approx(exact + math.log(10))
    assert plain["nll"].quantity == plain["elbo"].quantity == "log p(x): x a density"
    assert joint["nll"].quantity == "log p(x, y): x a density, y a mass"
    assert "joint" in joint["nll"].note
    assert "log p(x, y)" in str(joint["nll"])
    assert "joint" not in plain["nll"].note
    assert "log p" not in str(plain["nll"])
    table = comparison_table([Entry("plain", 0, plain), Entry("joint", 0, joint)])
    (found,) = [d for d in table.differences if d.metric == "nll"]
    assert found.value is None
    assert not found.verdict
    assert "log p(x): x a density and log p(x, y)" in found.note
    assert not any(row.cells["nll"].best for row in table.rows)


def test_a_label_that_is_taken_conditions_and_masses_are_no_densities():
    taken = judged(Plain(taken=True), metrics=["nll"])["nll"]
    assert taken.quantity == "log p(x | y): x a density"
    coins = (X > 0).double()
    binary, density = Plain(distribution=dist.Bernoulli(torch.full((2,), 0.5)).to_event(1)), Plain()
    reports = [judged(p, {"x": coins}, metrics=["nll"]) for p in (binary, density)]
    assert [r["nll"].quantity for r in reports] == ["log p(x): x a mass", "log p(x): x a density"]
    table = comparison_table([Entry(str(n), 0, r) for n, r in enumerate(reports)])
    assert not any(row.cells["nll"].best for row in table.rows)
    assert all(not d.verdict for d in table.differences)


def test_quantities_survive_a_file(tmp_path):
    report = judged(Plain(True), metrics=["nll"])
    report.to_json(tmp_path / "r.json")
    assert Report.from_json(tmp_path / "r.json")["nll"].quantity == report["nll"].quantity


@pytest.mark.parametrize("known", [True, False])
def test_a_record_without_a_quantity_is_compared_as_before(known):
    quantity = "log p(x): x a density" if known else ""
    records = [
        Record(v, 0.1, 9, "exact", name="nll", quantity=q) for v, q in ((1.0, ""), (2.0, quantity))
    ]
    table = comparison_table([Entry(str(n), 0, Report((r,))) for n, r in enumerate(records)])
    assert [row.cells["nll"].best for row in table.rows] == [True, False]


class Latent:
    """x = w z + noise in units of its own, with the exact posterior."""

    def __init__(self, mean, scale):
        self.mean, self.scale = mean.double(), scale.double()

    def _standard(self, x):
        return (x - self.mean) / self.scale

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            mean = self.mean + self.scale * z
            pyro.sample("x", dist.Normal(mean, self.scale).to_event(1), obs=x)

    def guide(self, x):
        d = x.shape[1]
        mean = self._standard(x).sum(1, keepdim=True) / (d + 1)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(mean, (d + 1) ** -0.5).to_event(1))


def test_standardised_data_are_judged_in_their_own_units():
    x = normals(300, 3) * torch.tensor([100.0, 10.0, 0.1]) + 5
    raw, moved = Data.from_arrays(x, seed=1), Data.from_arrays(x, seed=1, standardise=True)
    one, zero = torch.ones(3), torch.zeros(3)
    names = ["nll", "elbo", "ais", "bdmc", "inference_gap", "imputation_nll", "reconstruction"]
    options = {"metrics": names, "particles": 20, "steps": 4, "few": 4, "pictures": False}
    own = evaluate(Latent(moved.mean, moved.scale), raw, **options)
    standard = evaluate(Latent(zero, one), moved, **options)
    for name in names[:-1]:
        assert standard[name].value == pytest.approx(own[name].value, abs=1e-4), name
    for name in ("nll", "elbo", "ais"):
        assert "own units" in standard[name].note
        assert "units" not in own[name].note
    bound = [float(r["ais"].note.split("is ")[-1].split(" on")[0]) for r in (own, standard)]
    assert bound[0] == pytest.approx(bound[1], abs=0.02)
    assert "standardised units" in standard["reconstruction"].note
    assert standard["reconstruction"].quantity != own["reconstruction"].quantity


class Shifted(torch.nn.Module):
    """A normal distribution whose mean is learnt."""

    def __init__(self, sd):
        super().__init__()
        self.mean, self.sd = torch.nn.Parameter(torch.zeros(3)), sd

    def model(self, x):
        pyro.module("shifted", self)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(self.mean, self.sd).to_event(1), obs=x)

    def guide(self, x):
        pass


def test_the_validation_bound_is_in_the_units_of_the_data():
    x = (normals(100, 3) * torch.tensor([100.0, 10.0, 0.1])).float()
    data = Data.from_arrays(x, standardise=True)
    options = {"epochs": 1, "progress": False, "compile": "off", "valid_particles": 1}
    run = fit(Shifted(torch.ones(3)), ELBO(), data, **options)
    judged = evaluate(run, split="valid", metrics=["nll"], pictures=False)["nll"]
    assert run.history[-1]["bound"] == pytest.approx(-judged.value, rel=1e-5)
    distribution = dist.Normal(data.restore(run.pair.mean.detach()), data.scale).to_event(1)
    exact = distribution.log_prob(data.restore(data.valid.x)).mean()
    assert run.history[-1]["bound"] == pytest.approx(float(exact), rel=1e-5)


def test_bits_of_standardised_levels_are_those_of_the_levels():
    k = torch.randint(0, 256, (200, 4), generator=torch.Generator().manual_seed(0)).double()
    data = Data.from_arrays(2 * k, standardise=True, test=50)
    low, high = ((torch.tensor(v) - data.mean) / data.scale for v in (-1.0, 511.0))
    pair = Plain(distribution=dist.Uniform(low.double(), high.double()).to_event(1))
    found = evaluate(pair, data, metrics=["bits_per_dim"], pictures=False)["bits_per_dim"]
    assert found.value == pytest.approx(8.0, abs=1e-4)


LEVELS = torch.randint(0, 256, (300, 8), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(
    ("x", "spacing"),
    [
        (LEVELS / 255, 1 / 255),
        (LEVELS / 127.5 - 1, 2 / 255),
        ((LEVELS / 127.5).double() - 1, 2 / 255),
        (2 * LEVELS, 2.0),
        (3 + 0.5 * LEVELS, 0.5),
        (-100 - 0.1 * LEVELS, 0.1),
        (1e6 + 0.5 * LEVELS.double(), 0.5),
        (LEVELS.long(), 1.0),
        ((LEVELS**2 / 255).round() / 255, 1 / 255),
        (3 * (LEVELS % 6).clamp(max=4), 3.0),
        (torch.tensor([[0.0, 6, 10, 15, 36]]), 1.0),
        (torch.tensor([[0.0, 1.0]]), 1.0),
        ((LEVELS * 256 + LEVELS.roll(1)) / 65535, 1 / 65535),
    ],
)
def test_levels_are_found_wherever_they_lie(x, spacing):
    assert level_spacing(x) == pytest.approx(spacing, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 10, 30, 3000])
def test_real_numbers_lie_on_no_levels(rows):
    for seed in range(20):
        assert level_spacing(normals(rows, 1, seed)) is None
        assert level_spacing(normals(rows, 1, seed).float()) is None


def binary(n, d, draw):
    return (torch.rand(n, d, generator=draw) < 0.3).double()


def repeated(n, d, draw):
    return binary(n, d, draw)[torch.randint(0, n // 4, (n,), generator=draw)]


@pytest.mark.parametrize(("make", "d"), [(binary, 8), (binary, 24), (repeated, 16)])
@pytest.mark.parametrize("fresh", [60, 200])
def test_ties_are_shared_between_training_rows_and_fresh_ones(make, d, fresh):
    found = []
    for seed in range(40):
        draw = torch.Generator().manual_seed(seed)
        rows = make(120 + 200 + fresh, d, draw)
        rows = rows[torch.randperm(len(rows), generator=draw)]
        found.append(copying(*rows.split([120, 200, fresh])))
    preference = torch.tensor([f.preference for f in found])
    z = torch.tensor([f.z for f in found])
    assert abs(preference.mean() - 0.5) < 4 * preference.std() / len(found) ** 0.5 + 0.01
    assert abs(z.mean()) < 4 / len(found) ** 0.5
    assert 0.6 < z.std() < 1.4
    assert not (z > 3).any()
    copied = torch.tensor([f.copied / f.expected for f in found])
    assert abs(copied.mean() - 1) < 4 * copied.std() / len(found) ** 0.5 + 0.05


def test_copies_among_binary_rows_are_still_found():
    draw = torch.Generator().manual_seed(0)
    train, fresh = binary(300, 24, draw), binary(200, 24, draw)
    assert copying(train[:150], train, fresh).z > 5


@pytest.mark.parametrize(
    ("d", "shift", "n", "m"), [(3, 0.5, 60, 60), (8, 0.2, 80, 40), (3, 1.5, 120, 120)]
)
def test_errors_of_manifold_metrics_are_those_of_new_samples(d, shift, n, m):
    """Also where few far samples carry the balls, so that a variance falls as 1 / sqrt(n)."""
    values, errors = [], []
    for seed in range(300):
        real, generated = normals(n, d, 2 * seed), normals(m, d, 2 * seed + 1, shift)
        values.append([float(v.mean()) for v in manifold(real, generated)])
        if seed < 50:
            draw = torch.Generator().manual_seed(seed)
            errors.append(manifold_errors(real, generated, draw, divisions=8))
    actual, found = torch.tensor(values).std(0), torch.tensor(errors).mean(0)
    assert ((found / actual - 1).abs() < 0.25).all(), found / actual


def test_a_variance_is_taken_on_by_its_own_power_of_the_rows():
    halves, quarters = 3.0 * 50**-0.5, 3.0 * 25**-0.5
    assert _whole(1.0, 0.1, halves, quarters) == pytest.approx(0.1 + 3.0 * 100**-0.5)
    assert _whole(0.25, 0.1, halves, quarters) == pytest.approx(0.025 + 3.0 * 400**-0.5)
    assert _whole(1.0, 0.1, halves) == pytest.approx(0.1 + halves / 2)
    assert _whole(0.5, 0.1, -1e-9, 1e-9) == pytest.approx(0.05)


def test_too_few_rows_have_no_error():
    found = evaluate_samples(normals(10, 2), normals(10, 2, 1), metrics=["recall"], pictures=False)
    assert found["recall"].se is None
    assert "too few" in found["recall"].note
    found = evaluate_samples(normals(30, 2), normals(30, 2, 1), metrics=["recall"], pictures=False)
    assert found["recall"].se > 0
    assert found["recall"].values is None


class Coded:
    """A categorical latent, drawn whole or relaxed by the guide."""

    def __init__(self, distribution):
        self.distribution = distribution

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.OneHotCategorical(torch.ones(3).double()))
            pyro.sample("x", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", self.distribution(torch.ones(len(x), 3).double()))


def relaxed(probs):
    return dist.RelaxedOneHotCategorical(torch.tensor(0.5).double(), probs)


@pytest.mark.parametrize("distribution", [relaxed, lambda p: SoftCode(p / 3)])
def test_a_relaxed_code_has_no_density(distribution):
    found = judged(Coded(distribution), metrics=["nll", "elbo", "ais"])
    assert all("relaxed code" in record.note for record in found)
    pair = Coded(distribution)
    for objective in (ELBO(), ELBO(0.5), KL(), IWAE(1), IWAE(5), Renyi(0.5, 1)):
        with pytest.raises(ValueError, match="'c' between the values of the model's OneHot"):
            objective(pair.model, pair.guide, X)
        with pytest.raises(ValueError, match="no probability"):
            fit((pair.model, pair.guide), objective, Data.from_arrays(X), steps=1, progress=False)
    same = Match(lambda a, b: (a.mean(0) - b.mean(0)).square().sum(), "c", detached=True)
    assert same(pair.model, pair.guide, X).isfinite()


def test_a_straight_through_code_trains_by_the_elbo_and_has_no_bound():
    distribution = dist.RelaxedOneHotCategoricalStraightThrough
    pair = Coded(lambda probs: distribution(torch.tensor(0.5).double(), probs))
    assert ELBO()(pair.model, pair.guide, X).isfinite()
    with pytest.raises(ValueError, match=r"relaxed distribution.*train by ELBO\(\)"):
        IWAE(5)(pair.model, pair.guide, X)
    assert "relaxed code" in judged(pair, metrics=["nll"])["nll"].note


@pytest.mark.parametrize(
    "distribution", [dist.OneHotCategorical, lambda p: StraightThroughCode(p / 3)]
)
def test_a_whole_code_has_its_density(distribution):
    found = judged(Coded(distribution), metrics=["nll"])["nll"]
    assert found.value == pytest.approx(-Plain().distribution.log_prob(X).mean().item())


class Broken(torch.nn.Module):
    """A guide with a misspelt attribute."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.mispelt(x), 1.0).to_event(1))


@pytest.mark.parametrize("metric", ["nll", "kl", "reconstruction", "ais"])
def test_an_error_in_a_program_is_shown_as_it_is(metric):
    with pytest.raises(AttributeError, match="mispelt"):
        judged(Broken(), metrics=[metric])


def test_samples_alone_have_no_densities_and_other_names_are_errors():
    found = evaluate_samples(X, X.flip(0), metrics=["nll", "kl", "ais"], pictures=False)
    assert all("samples alone" in record.note for record in found)
    with pytest.raises(AttributeError, match="lawt"):
        _ = Draws(Plain().model, Plain().guide, {"x": X}).lawt
