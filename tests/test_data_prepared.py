"""New rows are prepared as the training rows were, and unknown labels have no effect."""

import json
import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.cli import main
from priory.comparison import compare_runs
from priory.data import Data, Preparation
from priory.data.rows import prepared
from priory.evaluation import Report, evaluate, evaluate_samples
from priory.inference import ELBO, Adversarial, Classification, Phases, fit, load
from priory.models import AAE, CVAE, VAE
from priory.nets import MLP

OPTIONS = {"valid_every": 0, "compile": "off", "device": "cpu"}
NORMAL = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 30.0] + [5.0, -200.0]


def table(**options):
    return Data.from_arrays(NORMAL, valid=0, test=0, **options)


def image(binarise="none", top=255):
    values = np.random.default_rng(1).integers(0, top + 1, (60, 1, 4, 4))
    return Data.from_arrays(values.astype(np.uint8), valid=0, test=0, binarise=binarise)


# --- one function ---------------------------------------------------------------------------------

FORMS = {
    "array": lambda x: x,
    "tensor": torch.tensor,
    "columns": lambda x: {"x": x},
    "frame": lambda x: pd.DataFrame(x, columns=["a", "b"]),
    "raw data": lambda x: Data.from_arrays(x, valid=0, test=0),
    "data by its own mean": lambda x: Data.from_arrays(x, valid=0, test=0, standardise=True),
    "split by its own mean": lambda x: Data.from_arrays(x, valid=0, test=0, standardise=True).train,
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_any_form_are_standardised_by_the_training_rows(form):
    kept = table(standardise=True).preparation
    x = NORMAL[:50] + 5 * NORMAL.std(0)
    found = prepared(FORMS[form](x), kept)
    found = getattr(found, "train", found)
    found = found.x if hasattr(found, "x") else found["x"]
    expected = torch.tensor((x - NORMAL.mean(0)) / NORMAL.std(0), dtype=torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_prepared_is_not_prepared_again():
    data = table(standardise=True)
    assert prepared(data, data.preparation) is data
    assert prepared(data.train, data.preparation) is data.train
    columns = data.train.columns
    assert prepared(columns, data.preparation) is columns
    assert data.to("cpu").train.preparation == data.preparation
    back = data.like(table().preparation).like(data.preparation)
    torch.testing.assert_close(back.train.x, data.train.x, rtol=1e-6, atol=1e-6)


def test_a_preparation_is_kept_as_plain_values():
    for data in (table(standardise=True), image(), image("dynamic"), table(y=["b", "a"] * 100)):
        kept = data.preparation
        assert Preparation.from_config(kept.to_config()) == kept
    with pytest.raises(ValueError, match="a preparation has"):
        Preparation.from_config({"shape": [2]})
    with pytest.raises(ValueError, match="of 2 features has 1 means"):
        Preparation.from_config({"shape": [2], "dtype": "float32", "mean": [1.0], "scale": [1.0]})


def test_pixels_are_scaled_exactly_where_the_training_rows_were():
    bytes_ = np.array([[[[0, 51], [102, 255]]]], np.uint8)
    kept = Preparation((1, 2, 2), "float32", pixels=True, divisor=255.0, high=1.0)
    expected = torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]])
    torch.testing.assert_close(kept.columns({"x": bytes_})["x"], expected)
    torch.testing.assert_close(kept.columns({"x": bytes_[:, 0]})["x"], expected)
    torch.testing.assert_close(kept.columns({"x": expected.numpy()})["x"], expected)
    with pytest.raises(ValueError, match=r"values in \[0, 255\].*give pixels as uint8"):
        kept.columns({"x": bytes_.astype(float)})
    greys = Preparation((1, 2, 2), "float32", high=1.0)
    torch.testing.assert_close(greys.columns({"x": bytes_})["x"], expected)
    counts = Preparation((1, 2, 2), "float32", high=200.0)
    assert counts.columns({"x": bytes_})["x"].max() == 255
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(1, 2, 2\)"):
        kept.columns({"x": np.zeros((5, 3))})


def test_greys_are_binarised_as_the_training_rows_were():
    greys = np.random.default_rng(2).random((500, 1, 4, 4))
    cut = image("threshold").preparation.columns({"x": greys})["x"]
    assert torch.equal(cut, torch.tensor(greys > 0.5, dtype=cut.dtype))
    drawn = image("dynamic").preparation.columns({"x": greys})["x"]
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.double().mean(), torch.tensor(greys.mean()), atol=0.02, rtol=0)
    again = image("dynamic").preparation.columns({"x": drawn})["x"]
    assert torch.equal(again, drawn)
    with pytest.raises(ValueError, match=r"x has values in \[-0\.99"):
        image("dynamic").preparation.columns({"x": 2 * greys - 1})
    with pytest.raises(ValueError, match="open the data with binarise='none'"):
        prepared(image("threshold"), image().preparation)


@pytest.fixture(scope="module")
def standardised():
    data = table(standardise=True)
    return fit(VAE(latent=1), ELBO(), data, steps=150, lr=1e-2, **OPTIONS)


def nll(run, data, **options):
    return evaluate(run, data, metrics=["nll"], particles=50, pictures=False, **options)[
        "nll"
    ].value


def test_rows_that_are_far_off_are_unlikely_in_every_form(standardised):
    near, far = NORMAL[:100], NORMAL[:100] + 5 * NORMAL.std(0)
    by = {"valid": 0, "test": 0, "standardise": True}
    same = nll(standardised, near)
    assert nll(standardised, Data.from_arrays(near, **by), split="train") == pytest.approx(
        same, 1e-4
    )
    values = [nll(standardised, far), nll(standardised, Data.from_arrays(far, **by), split="train")]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert values[0] > same + 15
    told = evaluate(
        standardised,
        near,
        outliers=Data.from_arrays(NORMAL[100:], **by).train,
        metrics=["outlier_auroc"],
        particles=50,
        pictures=False,
    )["outlier_auroc"]
    assert abs(told.value - 0.5) < 4 * told.se


def test_a_run_keeps_its_preparation(standardised, tmp_path):
    standardised.save(tmp_path / "run")
    raw = Data.from_arrays(NORMAL[:100], valid=0, test=0)
    run = load(tmp_path / "run", data=raw)
    assert run.preparation == standardised.preparation
    torch.testing.assert_close(run.data.train.x, standardised.data.train.x[:100])
    assert nll(run, None, split="train") == pytest.approx(nll(standardised, NORMAL[:100]), rel=1e-4)


@pytest.mark.parametrize(
    ("likelihood", "x", "words"),
    [
        ("bernoulli", np.full((20, 1, 4, 4), 0.3), r"\[0.3, 0.3\]"),
        ("bernoulli", np.full((20, 1, 4, 4), -1.0), r"\[-1, -1\]"),
        ("bernoulli", np.full((20, 1, 4, 4), 7.0), r"\[7, 7\]"),
        ("continuous-bernoulli", np.full((20, 1, 4, 4), 1.5), r"\[1.5, 1.5\]"),
        ("logistic", np.full((20, 1, 4, 4), 100.5 / 255), "expected values k / 255"),
    ],
)
def test_rows_outside_of_the_support_are_refused(likelihood, x, words):
    own = (np.random.default_rng(3).random((60, 1, 4, 4)) > 0.5).astype(float)
    run = fit(
        VAE(latent=2, likelihood=likelihood),
        ELBO(),
        Data.from_arrays(own, valid=0, test=0),
        steps=1,
        **OPTIONS,
    )
    with pytest.raises(ValueError, match=words):
        nll(run, x)
    with pytest.raises(ValueError, match=f"the outliers: .*{words}"):
        evaluate(run, own, outliers={"x": x}, metrics=["outlier_auroc"], pictures=False)


# --- labels ---------------------------------------------------------------------------------------

MEANS = {"cat": -3, "dog": 0, "emu": 5}


def animals(names, rows=60):
    y = np.random.default_rng(4).choice(names, rows)
    return np.random.default_rng(5).normal(size=(rows, 2)) + [[MEANS[v]] for v in y], y


@pytest.fixture(scope="module")
def zoo():
    data = Data.from_arrays(*animals(["cat", "dog", "emu"], 300), valid=0, test=0)
    return fit(CVAE(classes=3, latent=1), ELBO(), data, steps=30, lr=1e-2, **OPTIONS)


@pytest.mark.parametrize("names", [["dog", "emu"], ["emu"], ["cat"]])
def test_labels_are_numbered_by_the_runs_table(zoo, names):
    x, y = animals(names)
    numbers = np.array([["cat", "dog", "emu"].index(name) for name in y])
    expected = nll(zoo, {"x": x, "y": numbers})
    assert nll(zoo, {"x": x, "y": y}) == expected
    data = Data.from_arrays(x, y, valid=0, test=0)
    assert nll(zoo, data, split="train") == pytest.approx(expected, rel=1e-6)


def test_a_class_that_the_run_does_not_know_is_refused(zoo):
    x, y = animals(["cat"])
    y = np.where(np.arange(60) == 3, "yak", y)
    for data in ({"x": x, "y": y}, Data.from_arrays(x, y)):
        with pytest.raises(
            ValueError, match="have yak, and the training rows the classes cat, dog"
        ):
            nll(zoo, data)
    with pytest.raises(ValueError, match="have 3, and the training rows"):
        nll(zoo, {"x": x, "y": np.full(60, 3)})


@pytest.mark.parametrize("place", [0, 99, -1, -7, math.nan, "true"])
def test_what_stands_in_the_place_of_an_unseen_label_has_no_effect(place):
    y = np.arange(90) % 3
    seen = np.arange(90) < 30
    given = y if place == "true" else np.where(seen, y.astype(float), place)
    x = np.random.default_rng(6).normal(size=(90, 2)) + 4 * y[:, None]
    data, blind = (Data.from_arrays(x, v, labelled=seen, valid=0.2, test=0.2) for v in (given, y))
    assert data.classes == ("0", "1", "2")
    for part in ("train", "valid", "test"):
        one, other = (getattr(d, part).columns for d in (data, blind))
        assert all(torch.equal(one[name], other[name]) for name in ("x", "y", "labelled"))


def test_an_unknown_label_has_no_gradient_and_no_score():
    y = torch.tensor([0, 1, 2, -1, -1])
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    pair = AAE(codes=3, latent=2)
    pair.build(x)
    pair.eval()

    def gradient(rows, **columns):
        pair.zero_grad()
        torch.manual_seed(0)
        phases = Phases(pair.model, pair.guide, columns={"x": x[rows], **columns})
        loss = Classification("c").loss(phases)
        loss.backward()
        found = [p.grad.clone() for p in pair.parameters() if p.grad is not None]
        return loss.detach(), found

    loss, found = gradient(slice(None), y=y)
    expected, whole = gradient(slice(3), y=y[:3])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, whole)
    data = {"x": x.repeat(10, 1), "y": torch.tensor([0, 1, 2, -1, -1]).repeat(10)}
    few = {name: v[data["y"] >= 0] for name, v in data.items()}
    names = ["knn_accuracy", "linear_probe", "code_accuracy", "nmi"]
    one, other = (evaluate(pair, d, metrics=names, pictures=False) for d in (data, few))
    assert [r.n for r in one] == [r.n for r in other]
    assert one["linear_probe"].n == 30


def test_labels_that_may_mean_two_things_are_refused():
    for y in ([-1, 1] * 10, [-2, -1, 0, 1] * 5):
        with pytest.raises(ValueError, match="-1, which marks an unknown label"):
            Data.from_arrays(np.zeros((20, 1)), y)
    with pytest.raises(ValueError, match="all unknown"):
        Data.from_arrays(np.zeros((20, 1)), [-1] * 20)


def test_a_pair_that_needs_every_label_says_so():
    y = np.where(np.arange(60) % 4 == 3, -1, np.arange(60) % 4)
    data = Data.from_arrays(np.random.default_rng(0).normal(size=(60, 2)), y)
    with pytest.raises(ValueError, match="rows have no label"):
        fit(CVAE(classes=3, latent=1), ELBO(), data, steps=1, **OPTIONS)


# --- tables ---------------------------------------------------------------------------------------


def test_values_far_from_zero_keep_their_differences():
    times = 1.7e9 + np.arange(200.0) * 0.25
    x = np.stack([times, np.linspace(-1, 1, 200)], 1)
    data = Data.from_arrays(x, valid=0, test=0)
    torch.testing.assert_close(data.train.x[1:, 0] - data.train.x[:-1, 0], torch.full((199,), 0.25))
    torch.testing.assert_close(data.train.x[:, 1], torch.tensor(x[:, 1], dtype=torch.float32))
    assert data.scale.tolist() == [1, 1]
    assert "centred" in data.summary()
    np.testing.assert_allclose(data.restore(data.train.x).numpy(), x, atol=1e-5, rtol=0)
    whole = Data.from_arrays((times * 4).astype(np.int64)[:, None], valid=0, test=0)
    assert torch.equal(whole.train.x, whole.train.x.round())
    assert whole.train.x.unique().numel() == 200
    standard = Data.from_arrays(x, valid=0, test=0, standardise=True).train.x
    expected = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    torch.testing.assert_close(standard, expected)


def test_a_mask_counts():
    x = np.ma.array(np.ones((20, 2)), mask=np.zeros((20, 2), bool))
    assert len(Data.from_arrays(x, valid=0, test=0).train) == 20
    x[3, 1] = np.ma.masked
    with pytest.raises(ValueError, match="1 masked values, in 1 rows, the first of them row 3"):
        Data.from_arrays(x)


def test_the_index_that_pandas_writes_is_no_feature(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "label": ["u", None, "v"]})
    frame.to_csv(tmp_path / "own.csv")
    data = Data.from_file(tmp_path / "own.csv", valid=0, test=0)
    assert data.train.x.tolist() == [[1.0], [2.0], [4.0]]
    assert data.train.columns["y"].tolist() == [0, -1, 1]
    assert data.train.columns["labelled"].tolist() == [True, False, True]


def test_folders_of_splits_are_no_labels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for n, name in enumerate(("train/cat", "train/dog", "test/dog", "val/cat")):
        (tmp_path / name).mkdir(parents=True)
        image.fromarray(pixels + 10 * n).save(tmp_path / name / "one.png")
    data = Data.from_file(tmp_path, valid=0, test=0)
    assert data.classes == ("cat", "dog")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [2, 1, 1]
    assert data.test.columns["y"].tolist() == [1]
    torch.testing.assert_close(data.test.x[0, 0, 0, 0] * 255, torch.tensor(20.0))
    (tmp_path / "train").rename(tmp_path / "cats")
    assert Data.from_file(tmp_path / "cats", valid=0, test=0).classes == ("cat", "dog")
    (tmp_path / "cats").rename(tmp_path.parent / "cats")
    with pytest.raises(ValueError, match="no folder train"):
        Data.from_file(tmp_path)


def test_samples_of_8_bits_are_scaled_or_refused():
    real = np.random.default_rng(0).random((50, 1, 4, 4))
    bytes_ = (real * 255).round().astype(np.uint8)
    options = {"metrics": ["mmd"], "pictures": False}
    given = evaluate_samples(bytes_, real, **options)["mmd"]
    divided = evaluate_samples(bytes_ / 255, real, **options)["mmd"]
    assert given.value == pytest.approx(divided.value, abs=1e-5)
    with pytest.raises(ValueError, match="integers up to 255, and the data lie in"):
        evaluate_samples(bytes_.astype(float), real, **options)


def test_the_number_of_classes_is_that_of_the_labels():
    x = np.random.default_rng(0).normal(size=(90, 2))
    data = Data.from_arrays(x, np.array([1, 5, 7])[np.arange(90) % 3], valid=0, test=0)
    run = fit(CVAE(latent=1), ELBO(), data, steps=2, **OPTIONS)
    assert run.pair.classes == 3
    assert run.every_value("y") == [1, 5, 7]
    for given in (7, "7", [7] * 4, torch.full((4,), 7)):
        assert run.sample(4, given={"y": given})["y"].tolist() == [2] * 4
    with pytest.raises(ValueError, match="y must be one of 1, 5, 7; got 0"):
        run.sample(4, given={"y": 0})
    with pytest.raises(ValueError, match="no training row has the label 3 of the classes"):
        fit(CVAE(classes=4, latent=1), ELBO(), data, steps=1, **OPTIONS)


def test_a_critic_of_labels_refuses_unknown_ones():
    y = np.where(np.arange(60) % 3 == 2, -1, np.arange(60) % 3)
    data = Data.from_arrays(np.zeros((60, 2)), y, valid=0, test=0)
    critic = Adversarial(MLP(hidden=(4,)), ("x", "y"))
    with pytest.raises(ValueError, match=r"the critic compares 'y', and 20 of 60 rows"):
        fit(VAE(latent=1), critic, data, steps=1, **OPTIONS)


class Table(torch.nn.Module):
    """Independent normal columns, with their true mean and sd in whatever units the rows are."""

    def build(self, x):
        self.loc = torch.nn.Parameter(x.mean(0))
        self.scale = torch.nn.Parameter(x.std(0))

    def model(self, x):
        pyro.module("table", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.loc, self.scale).to_event(1), obs=x)

    def guide(self, x):
        pass


def test_standardised_and_raw_runs_are_compared_on_the_same_rows(tmp_path):
    runs = {
        name: fit(Table(), ELBO(), data, steps=1, lr=1e-9, **OPTIONS)
        for name, data in {
            "raw": Data.from_arrays(NORMAL),
            "standardised": Data.from_arrays(NORMAL, standardise=True),
            "others": Data.from_arrays(NORMAL, standardise=True, seed=1),
            "cut": Data.from_arrays(NORMAL, standardise=True, test=7),
        }.items()
    }
    options = {"metrics": ["nll", "elbo"], "particles": 1, "pictures": False}
    found = compare_runs({n: runs[n] for n in ("raw", "standardised")}, **options)
    (nll,) = [d for d in found.differences if d.metric == "nll"]
    assert nll.value == pytest.approx(0.0, abs=1e-4)
    assert nll.verdict == "not distinguishable"
    assert found.entries[0].report.source == found.entries[1].report.source
    (tmp_path / "r.json").write_text(json.dumps(found.entries[0].report.as_dict()))
    assert Report.from_json(tmp_path / "r.json").same_rows(found.entries[1].report)
    for other in ("others", "cut"):
        with pytest.raises(ValueError, match="judged on different rows"):
            compare_runs({n: runs[n] for n in ("raw", other)}, **options)
    rows = {"x": NORMAL[:50]}
    one, two = (evaluate(runs[n], rows, **options) for n in ("raw", "standardised"))
    assert one.digest != two.digest
    assert one.same_rows(two)
    assert not one.same_rows(evaluate(runs["standardised"], {"x": NORMAL[1:51]}, **options))


# --- features by their names ----------------------------------------------------------------------

WIDE = NORMAL[:60] + np.array([0.0, 100.0])


def written(folder, name, columns, x):
    """A table in a file: names and values in the same order."""
    path = folder / name
    frame = pd.DataFrame(x, columns=columns)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.fixture
def named_table(tmp_path):
    return Data.from_file(written(tmp_path, "train.csv", ["a", "b"], NORMAL), valid=0, test=0)


REORDERED = {
    "csv": lambda folder: written(folder, "new.csv", ["b", "a"], WIDE[:, ::-1]),
    "parquet": lambda folder: written(folder, "new.parquet", ["b", "a"], WIDE[:, ::-1]),
    "frame": lambda folder: pd.DataFrame(WIDE[:, ::-1], columns=["b", "a"]),
    "frame with labels": lambda folder: pd.DataFrame(
        {"b": WIDE[:, 1], "y": 0, "a": WIDE[:, 0]}, columns=["b", "y", "a"]
    ),
    "columns": lambda folder: {"x": pd.DataFrame(WIDE[:, ::-1], columns=["b", "a"])},
    "data": lambda folder: Data.from_file(
        written(folder, "new.csv", ["b", "a"], WIDE[:, ::-1]), valid=0, test=0, standardise=True
    ),
    "no names": lambda folder: WIDE,
    "numbers for names": lambda folder: pd.DataFrame(WIDE),
    "no header": lambda folder: (
        np.savetxt(folder / "new.csv", WIDE, delimiter=",") or folder / "new.csv"
    ),
}


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("form", REORDERED)
def test_features_are_put_in_the_order_of_the_training_rows(form, standardise, tmp_path):
    path = written(tmp_path, "train.csv", ["a", "b"], NORMAL)
    data = Data.from_file(path, valid=0, test=0, standardise=standardise)
    assert data.preparation.features == ("a", "b")
    kept = Preparation.from_config(data.preparation.to_config())
    found = prepared(REORDERED[form](tmp_path), kept)
    found = found.train.x if isinstance(found, Data) else found["x"]
    expected = torch.tensor((WIDE - NORMAL.mean(0)) / NORMAL.std(0) if standardise else WIDE)
    assert len(found) >= 48  # a file's rows are drawn, and some of them are no training rows
    assert torch.cdist(found.double(), expected).amin(1).max() < 1e-4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["a"], "they don't have 'b'$"),
        (["a", "b", "c"], "they have 'c' besides$"),
        (["b", "c"], "they don't have 'a'; they have 'c' besides$"),
    ],
)
def test_features_that_differ_are_named(columns, words, named_table):
    frame = pd.DataFrame(np.zeros((5, len(columns))), columns=columns)
    with pytest.raises(ValueError, match=words):
        prepared(frame, named_table.preparation)


def test_a_run_judges_and_goes_on_by_the_names_of_its_features(tmp_path, named_table, capsys):
    run = fit(VAE(latent=1), ELBO(), named_table, steps=3, folder=tmp_path / "run", **OPTIONS)
    options = {"metrics": ["nll"], "particles": 3, "pictures": False}
    expected = evaluate(run, pd.DataFrame(WIDE, columns=["a", "b"]), **options)["nll"].value
    other = written(tmp_path, "other.csv", ["b", "a"], WIDE[:, ::-1])
    again = load(tmp_path / "run")
    frame = pd.read_csv(other)
    assert evaluate(again, frame, **options)["nll"].value == pytest.approx(expected, rel=1e-6)
    words = ["fit", tmp_path / "run", "--warm", "--out", tmp_path / "warm", "--data", other]
    assert main([str(w) for w in (*words, "--steps", 1, "--lr", 1e-30)]) == 0
    warm = load(tmp_path / "warm")
    assert warm.preparation.features == ("a", "b")
    assert float(warm.data.train.x[:, 1].min()) < -10 < float(warm.data.train.x[:, 0].min())


# --- samples in the data's own units --------------------------------------------------------------

AWAY = np.array([1e7, -1e6])
FAR = NORMAL + AWAY


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: table(standardise=True), id="standardised"),
        pytest.param(lambda: Data.from_arrays(FAR, valid=0, test=0), id="centred"),
        pytest.param(lambda: table(), id="as given"),
    ],
)
def test_samples_are_drawn_and_judged_in_the_datas_own_units(data):
    data = data()
    own = FAR if data.mean is not None and float(data.mean[0]) > 1e6 else NORMAL
    run = fit(VAE(latent=1, likelihood="normal"), ELBO(), data, steps=60, **OPTIONS)
    drawn = run.sample(400)
    for site in ("x", "x_mean"):
        middle = drawn[site].double().mean(0).numpy()
        assert (np.abs(middle - own.mean(0)) < own.std(0)).all(), site
    options = {"metrics": ["c2st_1nn"], "split": "train", "pictures": False}
    fresh = np.random.default_rng(9).normal(size=(200, 2)) * NORMAL.std(0) + own.mean(0)
    for given in (fresh, torch.tensor(fresh), {"x": fresh}, pd.DataFrame(fresh)):
        assert abs(evaluate_samples(given, data, **options)["c2st_1nn"].value - 0.5) < 0.15
    served = evaluate_samples(data.train.columns | {"index": torch.arange(200)}, data, **options)
    assert (
        served["c2st_1nn"].value == evaluate_samples(data.train, data, **options)["c2st_1nn"].value
    )
    assert evaluate_samples(fresh + 9 * NORMAL.std(0), data, **options)["c2st_1nn"].value > 0.9


def test_two_files_are_judged_in_one_order_and_by_one_mean(tmp_path, capsys):
    draw = np.random.default_rng(3)
    far = draw.normal(size=(2, 150, 2)) + np.array([1e7, 0.0])
    real = written(tmp_path, "real.csv", ["a", "b"], far[0])
    same = written(tmp_path, "same.csv", ["b", "a"], far[1][:, ::-1])
    moved = written(tmp_path, "moved.csv", ["a", "b"], far[1] + np.array([5.0, 0.0]))
    found = []
    for file in (same, moved):
        words = ["evaluate", "--samples", file, "--against", real, "--metrics", "c2st_1nn"]
        assert main([str(w) for w in (*words, "--json", tmp_path / f"{file.stem}.json")]) == 0
        found.append(Report.from_json(tmp_path / f"{file.stem}.json")["c2st_1nn"].value)
    assert abs(found[0] - 0.5) < 0.1
    assert found[1] > 0.95
