"""Categorical codes: their laws, what they tell, few labels, and the pairs that have them."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory.cli.entry import main
from priory.data import Data, Feed
from priory.distributions.categorical import CODES, OneHot, SoftCode, StraightThroughCode
from priory.evaluation import evaluate
from priory.evaluation.latents.categorical import code_hits, information_values, transferred_hits
from priory.inference import Adversarial, Classification, Phases, Sleep, fit
from priory.models import AAE, VAE, InfoGAN
from priory.nets import MLP
from priory.recipes import RECIPES

SMALL = {"encoder": "mlp:32", "decoder": "mlp:32", "latent": 3}


# --- the laws -------------------------------------------------------------------------------------


def test_draws_have_the_probabilities_and_their_logarithms():
    torch.manual_seed(0)
    probs = torch.tensor([0.1, 0.2, 0.7]).double()
    distribution = OneHot(probs)
    drawn = distribution.sample((20_000,))
    assert set(drawn.unique().tolist()) == {0, 1}
    assert (drawn.sum(-1) == 1).all()
    se = (probs * (1 - probs) / len(drawn)).sqrt()
    assert ((drawn.mean(0) - probs).abs() < 4 * se).all()
    library = dist.OneHotCategorical(probs)
    torch.testing.assert_close(distribution.log_prob(drawn), library.log_prob(drawn))
    torch.testing.assert_close(
        distribution.expand((4, 2)).entropy(), library.entropy().expand(4, 2)
    )
    assert distribution.expand((4, 2)).sample((5,)).shape == (5, 4, 2, 3)


@pytest.mark.parametrize("name", CODES)
def test_the_gradient_through_a_code_is_that_of_its_probabilities(name):
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64)
    assert CODES[name].has_rsample
    (mine,) = torch.autograd.grad((CODES[name](logits=logits).rsample() @ weight).sum(), logits)
    (true,) = torch.autograd.grad((logits.softmax(-1) @ weight).sum(), logits)
    torch.testing.assert_close(mine, true)


def test_a_straight_through_code_is_one_hot_and_a_soft_one_is_its_mean():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    hard, soft = StraightThroughCode(logits=logits).rsample(), SoftCode(logits=logits).rsample()
    assert ((hard == 0) | (hard == 1)).all()
    assert torch.equal(soft, SoftCode(logits=logits).mean)


# --- what a code tells ----------------------------------------------------------------------------


class Channel(nn.Module):
    """A code of ten values, sent with errors; a guide that takes them for as many as it likes."""

    def __init__(self, error, believed):
        super().__init__()
        self.distribution, self.belief = (self.channel(e) for e in (error, believed))

    @staticmethod
    def channel(error):
        return torch.full((10, 10), error / 9).fill_diagonal_(1 - error).double()

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(torch.full((10,), 0.1).double()))
            pyro.sample("x", dist.OneHotCategorical(c @ self.distribution), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.OneHotCategorical(x @ self.belief))


def bound(error, believed, n=2000):
    """H(c) less the cost of finding the code in its dream, by the objective and by the metric."""
    pair, x = Channel(error, believed), torch.eye(10).double()[torch.arange(n) % 10]
    torch.manual_seed(0)
    loss = math.log(10) - float(Sleep("c")(pair.model, pair.guide, x))
    metric = evaluate(pair, {"x": x}, metrics=["code_information"], pictures=False)
    return loss, metric["code_information"]


def test_where_the_dream_determines_the_code_the_bound_is_its_entropy():
    loss, metric = bound(0.0, 1e-6)
    assert loss == pytest.approx(math.log(10), abs=1e-3)
    assert loss <= math.log(10)
    assert metric.value == pytest.approx(2.3026, abs=1e-3)
    assert (metric.kind, metric.unit) == ("lower bound", "nats")


def test_the_bound_is_the_information_less_what_the_guide_gets_wrong():
    error, information = 0.3, math.log(10) + 0.7 * math.log(0.7) + 0.3 * math.log(0.3 / 9)
    for believed, wrong in ((0.3, 0.0), (0.6, None), (0.9, None)):
        if wrong is None:
            wrong = 0.7 * math.log(0.7 / (1 - believed)) + 0.3 * math.log(0.3 / believed)
        loss, metric = bound(error, believed)
        assert metric.value == pytest.approx(information - wrong, abs=4 * metric.se + 1e-9)
        assert loss == pytest.approx(information - wrong, abs=4 * metric.se + 1e-9)
    assert bound(0.9, 0.9)[1].value == pytest.approx(0.0, abs=1e-9)  # nothing is told


def test_the_bound_never_exceeds_the_entropy():
    log_q = torch.randn(100, dtype=torch.float64).clamp(max=0)
    values = information_values(torch.tensor(math.log(10), dtype=torch.float64), log_q)
    assert values.max() <= math.log(10)


# --- a code as classifier and as clusters ---------------------------------------------------------


class Told(nn.Module):
    """A pair whose code is a function of the datum's only feature, a whole number."""

    def __init__(self, table, values=4):
        super().__init__()
        self.table, self.values = torch.tensor(table), values

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(torch.ones(self.values).double()))
            pyro.sample("x", dist.Normal(c[..., :1], 1.0).to_event(1), obs=x)

    def guide(self, x):
        code = self.table[x[..., 0].long()]
        logits = 20.0 * torch.nn.functional.one_hot(code, self.values).double()
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.OneHotCategorical(logits=logits))


LABELS = torch.tensor([0] * 40 + [1] * 30 + [2] * 20 + [3] * 10)
CLUSTERING = ("clustering_hungarian", "clustering_majority", "clustering_confident")


@pytest.mark.parametrize(
    ("table", "accuracy", "clustering"),
    [
        ([0, 1, 2, 3], 1.0, 1.0),
        ([1, 2, 3, 0], 0.0, 1.0),
        ([1, 0, 2, 3], 0.3, 1.0),
        ([2, 2, 2, 2], 0.2, 0.4),
        ([0, 0, 1, 1], 0.4, 0.6),
    ],
)
def test_permuted_codes_are_perfect_clusters_and_a_constant_one_the_majority(
    table, accuracy, clustering
):
    columns = {"x": LABELS.double().unsqueeze(1), "y": LABELS}
    names = ["code_accuracy", *CLUSTERING]
    report = evaluate(Told(table), columns, metrics=names, pictures=False)
    assert report["code_accuracy"].value == accuracy
    for name in CLUSTERING:
        assert report[name].value == pytest.approx(clustering), name


def test_what_has_no_code_says_so():
    run = fit(VAE(latent=2), None, Data.named("digits", rows=200), steps=1, valid_every=0)
    report = evaluate(run, metrics=["code_information", "code_accuracy"], limit=20, pictures=False)
    for record in report:
        assert not record.applicable
        assert "no categorical latent" in record.note
    columns = {"x": LABELS.double().unsqueeze(1), "y": LABELS}
    more = evaluate(Told([0, 1, 2, 3], 6), columns, metrics=["code_accuracy"], pictures=False)
    assert "6 values" in more["code_accuracy"].note


def test_clusters_are_named_by_other_rows():
    given = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.55, 0.45, 0.0]])
    labels = torch.tensor([7, 3, 5, 3])
    judged = torch.tensor([[0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])
    truth = torch.tensor([7, 3, 5, 7])
    confident = transferred_hits((given, labels), (judged, truth))
    assert confident.tolist() == [1, 0, 1, 1]  # the empty cluster's best row is the first
    majority = transferred_hits((given, labels), (judged, truth), "majority")
    assert majority.tolist() == [0, 1, 1, 0]
    assert code_hits(judged, torch.tensor([0, 1, 1, 2])).tolist() == [1, 0, 1, 1]
    with pytest.raises(ValueError, match="rule must be"):
        transferred_hits((given, labels), (judged, truth), "best")


# --- few labels -----------------------------------------------------------------------------------


def test_as_many_rows_of_each_class_are_labelled_by_the_seed():
    first, again, other = (Data.named("digits", labelled=50, seed=s) for s in (0, 0, 1))
    plain = Data.named("digits")
    seen = first.train.columns["labelled"]
    hidden = torch.where(seen, plain.train.columns["y"], -1)
    assert torch.equal(first.train.columns["y"], hidden)
    assert (torch.bincount(first.train.columns["y"][seen]) == 5).all()
    assert torch.equal(seen, again.train.columns["labelled"])
    assert not torch.equal(seen, other.train.columns["labelled"])
    assert first.test.columns["labelled"].all()
    assert "50 of them seen" in first.summary()
    assert torch.equal(Data.open(**first.config).train.columns["labelled"], seen)


def test_labelled_rows_are_a_quarter_of_the_order_and_equally_often():
    split = Data.named("digits", labelled=30).train
    seen = split.columns["labelled"]
    for epoch in range(3):
        order = split.order(epoch=epoch, seed=5)
        assert len(order) == len(split)
        times = torch.bincount(order, minlength=len(split))
        assert int(times[seen].sum()) == round(len(split) / 4)
        assert int(times[seen].max() - times[seen].min()) <= 1
        assert int(times[~seen].max()) == 1
    assert torch.equal(split.order(epoch=1, seed=5), split.order(epoch=1, seed=5))
    plain = Data.named("digits").train
    most = Data.named("digits", labelled=1000).train
    assert torch.equal(most.order(epoch=1, seed=5), plain.order(epoch=1, seed=5))


def test_an_epoch_with_few_labels_is_taken_up_in_its_middle_and_fed():
    split = Data.named("digits", labelled=30).train
    options = {"epoch": 2, "seed": 3, "shuffle": True, "drop_last": True}
    whole, rest = (list(split.batches(100, start=s, **options)) for s in (0, 7))
    for a, b in zip(whole[7:], rest, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    feed = Feed(split, 100)
    rows = split.order(epoch=2, seed=3).split(100)[7]
    feed.load(rows, epoch=2, seed=3, batch=7)
    fed = feed.columns()
    for name in ("y", "labelled", "index"):
        assert torch.equal(fed[name], whole[7][name])


def test_arrays_have_few_labels_by_number_or_by_column():
    x, y = torch.rand(100, 2), torch.arange(100) % 4
    assert int(Data.from_arrays(x, y, labelled=8).train.columns["labelled"].sum()) == 8
    own = Data.from_arrays(x, y, labelled=y == 0, valid=0, test=0).train.columns
    assert torch.equal(own["labelled"], torch.arange(100) % 4 == 0)
    assert torch.equal(own["y"], torch.where(own["labelled"], 0, -1))


@pytest.mark.parametrize(
    ("labelled", "told"),
    [
        (5, "from 10, the number of classes"),
        (5000, "to 1297"),
        (0, "1 or more"),
        (2.5, "an integer"),
    ],
)
def test_a_wrong_number_of_labels_is_told(labelled, told):
    with pytest.raises(ValueError, match=told):
        Data.named("digits", labelled=labelled)


def test_labels_that_are_not_there_cannot_be_few():
    with pytest.raises(ValueError, match="no column 'y'"):
        Data.from_arrays(torch.rand(20, 2), labelled=4)


def test_training_looks_at_seen_labels_alone():
    data = Data.named("digits", labelled=50)
    blind = Data.named("digits", labelled=50)
    hidden = ~blind.train.columns["labelled"]
    blind.train.columns["y"] = blind.train.columns["y"].clone()
    blind.train.columns["y"][hidden] = (blind.train.columns["y"][hidden] + 1) % 10
    options = {"steps": 3, "valid_every": 0, **SMALL}
    one, other = (RECIPES["aae-semi"].fit(d, **options).pair.state_dict() for d in (data, blind))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_few_labels_make_the_code_a_classifier():
    data = Data.named("digits", labelled=100)
    run = RECIPES["aae-semi"].fit(data, steps=120, lr=5e-3, valid_every=0, **SMALL)
    accuracy = evaluate(run, metrics=["code_accuracy"], pictures=False)["code_accuracy"]
    assert accuracy.value > 0.5


# --- the pairs ------------------------------------------------------------------------------------

PAIRS = {
    "aae": lambda: AAE(codes=4, latent=2),
    "straight-through": lambda: AAE(codes=4, latent=2, code="straight-through"),
    "random style": lambda: AAE(codes=4, latent=2, deterministic=False, noise=0.2),
    "infogan": lambda: InfoGAN(codes=4, latent=2),
    "no continuous": lambda: InfoGAN(codes=4, latent=2, continuous=0),
    "noise": lambda: InfoGAN(codes=4, latent=2, noise=0.2),
}


@pytest.mark.parametrize("name", PAIRS)
def test_particles_lead_and_dreams_have_one_hot_codes(name):
    pair = PAIRS[name]()
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    pair.build(x)
    phases = Phases(pair.model, pair.guide, columns={"x": x}, particles=3)
    assert phases.awake.sample["c"].shape == (3, 6, 4)
    assert phases.awake.log_q("c").shape == (3, 6)
    assert phases.awake.log_p(("c", "z")).shape == (3, 6)
    generated = phases.asleep
    assert (generated.sample["c"].max(-1).values == 1).all()
    assert generated.sample["x"].shape == (1, *x.shape)
    assert generated.log_q("c").shape == (1, 6)
    torch.testing.assert_close(generated.log_p("c"), torch.full((1, 6), -math.log(4)))
    if "u" in generated.sample:
        assert (generated.sample["u"].abs() <= 1).all()


@pytest.mark.parametrize("pair", [AAE(noise=0.5, latent=2), InfoGAN(noise=0.5, latent=2)])
def test_noise_is_on_what_the_guide_reads_in_training_alone(pair):
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    pair.build(x)
    with torch.no_grad():
        for training in (True, False):
            pair.train(training)
            first, again = (pair.encoder(x)[0].probs for _ in range(2))
            assert torch.equal(first, again) is not training


@pytest.fixture(scope="module")
def coded():
    pair = InfoGAN("normal", MLP((8,)), MLP((8,)), latent=2, codes=4)
    objective = Adversarial(MLP((8,)), "x") + Sleep("c")
    data = Data.named("digits", rows=300, binarise="none")
    return fit(pair, objective, data, steps=2, valid_every=0, progress=False)


def test_a_code_can_be_given_by_its_number(coded, tmp_path, capsys):
    each = coded.sample(3, given={"c": [2, 0, 3]})
    assert torch.equal(each["c"], torch.eye(4)[[2, 0, 3]])
    assert torch.equal(coded.sample(2, given={"c": 1})["c"], torch.eye(4)[[1, 1]])
    assert torch.equal(coded.sample(2, given={"c": torch.eye(4)[3]})["c"], torch.eye(4)[[3, 3]])
    assert coded.every_value("c") == [0, 1, 2, 3]
    coded.save(tmp_path / "run")
    picture = tmp_path / "codes.png"
    assert not main(["sample", str(tmp_path / "run"), "--given", "c=all", "--out", str(picture)])
    assert "c (40, 4)" in capsys.readouterr().out
    assert picture.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"c": 4}, "c must be an integer from 0 to 3, got 4"),
        ({"c": -1}, "from 0 to 3, got -1"),
        ({"c": [0, 1]}, r"shape \(4,\)"),
        ({"c": [0.5, 0.5, 0.0, 0.0]}, "must lie in the support of OneHot"),
    ],
)
def test_a_code_that_is_none_is_told(coded, given, said):
    with pytest.raises(ValueError, match=said):
        coded.sample(3, given=given)


def test_all_values_are_those_of_labels_or_codes(coded):
    with pytest.raises(ValueError, match=r"z=all needs a column.*or a categorical site 'z'"):
        coded.every_value("z")


def test_a_code_given_by_its_probabilities_is_classified_like_any():
    pair = AAE(codes=4, latent=2)
    x, y = torch.rand(8, 5).round(), torch.arange(8) % 4
    pair.build(x)
    phases = Phases(pair.model, pair.guide, columns={"x": x, "y": y})
    distribution = phases.awake.distribution("c")
    rows = torch.nn.functional.one_hot(y, 4).to(x)
    torch.testing.assert_close(
        Classification("c").loss(phases), -distribution.log_prob(rows).mean()
    )


@pytest.mark.parametrize("recipe", ["aae-clusters", "aae-semi", "infogan"])
def test_a_traced_step_is_the_eager_one(recipe):
    data = Data.named("digits", labelled=20, rows=300)
    options = {"steps": 4, "batch_size": 64, "valid_every": 0, "latent": 3}
    losses = [
        RECIPES[recipe].fit(data, compile=mode, **options).history[-1]["loss"]
        for mode in ("off", "trace")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AAE(codes=1), "codes must be an integer of 2 or more"),
        (lambda: AAE(latent=0), "latent must be a positive integer"),
        (lambda: AAE(noise=-1.0), "noise must not be negative"),
        (lambda: AAE(code="soft"), "nearest 'softmax'"),
        (lambda: InfoGAN(continuous=-1), "continuous must be an integer of 0 or more"),
        (lambda: InfoGAN(noise=math.nan), "noise must not be negative"),
    ],
)
def test_wrong_options_are_told(make, told):
    with pytest.raises(ValueError, match=told):
        make()
